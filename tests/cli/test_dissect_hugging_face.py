"""Model folders of Hugging Face: a tiny BERT, GPT-2 and ViT with random weights, written by save_pretrained."""

import json
import sys

import pytest
import torch
from command import call

from thruway.dissecting import dissect
from thruway.integrations.hugging_face import open_folder

transformers = pytest.importorskip("transformers")

SENTENCES = ["a cat sat", "it rained all day long and it rained", "the mat", "the cat and the mat sat on a mat"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(" ".join(SENTENCES).split())]
SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}


@pytest.fixture
def bert(empty_place):
    folder = empty_place / "bert"
    folder.mkdir()
    (folder / "words.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "words.txt")).save_pretrained(folder)
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, initializer_range=0.5, **SMALL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    (empty_place / "sentences.txt").write_text("\n\n".join(SENTENCES) + "\n")
    return folder


def found(capsys, *arguments):
    said = call(capsys, "dissect", *arguments, "--json", "-", "--draws", "2")
    assert said.code == 0, said.all
    return json.loads(said.out)


def test_sentences_move_as_far_as_each_does_alone(capsys, bert):
    """Padding to one length, and batches, change no sentence's number."""
    results = found(capsys, bert, "--text", "sentences.txt", "--batch", "3")
    opened = open_folder(bert)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    assert tokenizer.unk_token_id not in tokenizer(SENTENCES[3])["input_ids"]
    alone = [dict(tokenizer(sentence, return_tensors="pt")) for sentence in SENTENCES]
    d = dissect(opened.model, alone[0])
    changes, cosines = [], []
    with torch.no_grad():
        for inputs in alone:
            before = opened.model(**inputs).last_hidden_state.double()
            after = d.without(1)(**inputs).last_hidden_state.double()
            changes.append(((after - before).norm() / before.norm()).item())
            cosines.append(1 - torch.cosine_similarity(after.mean(1), before.mean(1)).item())
    change, cosine = results["lesions"]
    # float32 in the net, and attention to padding that is e^-large instead of nothing
    assert change["without"][1]["value"] == pytest.approx(sum(changes) / len(changes), rel=1e-4)
    assert cosine["without"][1]["value"] == pytest.approx(sum(cosines) / len(cosines), rel=1e-4)
    assert (change["intact"], change["examples"]) == (0.0, len(SENTENCES))
    assert len(results["branches"]) == 4


def test_without_text_only_the_structure_is_shown(capsys, bert):
    results = found(capsys, bert)
    assert results["measured"] is False
    assert "random numbers of the shapes in the model's config: input_ids (2, 12)" in results["example"]


@pytest.mark.parametrize(
    ("kind", "config", "branches"),
    [
        ("GPT2LMHeadModel", {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32}, 4),
        ("ViTForImageClassification", {**SMALL, "image_size": 8, "patch_size": 4, "num_channels": 1}, 4),
    ],
)
def test_heads_and_other_inputs(capsys, empty_place, kind, config, branches):
    model = getattr(transformers, kind)
    model(model.config_class(**config)).save_pretrained(empty_place / "net")
    results = found(capsys, "net")
    assert kind in results["about"]
    assert len(results["branches"]) == branches


def test_an_image_model_classifies_named_data(capsys, empty_place):
    config = transformers.ViTConfig(**SMALL, image_size=8, patch_size=4, num_channels=1, num_labels=10)
    transformers.ViTForImageClassification(config).save_pretrained(empty_place / "vit")
    results = found(capsys, "vit", "--data", "digits", "--examples", "60", "--path-examples", "4")
    assert [each["metric"] for each in results["lesions"]] == ["error", "loss"]
    assert results["lesions"][0]["examples"] == 60
    assert results["effective_depth"]["value"] > 0
    said = call(capsys, "dissect", "vit", "--text", "x.txt")
    assert "--text x.txt cannot be read" in said.all


REFUSED = {
    "no weights": ("model.safetensors", None, "has a config.json but no model.safetensors"),
    "broken weights": ("model.safetensors", b"{}", "cannot be read"),
    "no config": ("config.json", b"nonsense", "is not readable JSON"),
    "another config": ("config.json", b'{"name": "net"}', "names no model"),
    "code of its own": ("config.json", b'{"architectures": ["A"], "auto_map": {"AutoModel": "code.A"}}', "is not run"),
    "no such class": ("config.json", b'{"architectures": ["BretModel"]}', "has no 'BretModel'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_are_not_read(capsys, bert, case, empty_place):
    file, content, answer = REFUSED[case]
    (bert / file).unlink()
    if content is not None:
        (bert / file).write_bytes(content)
    said = call(capsys, "dissect", bert)
    assert said.code in (1, 2)
    assert answer in said.all
    assert not (empty_place / "dissections").exists()


def test_weights_that_are_missing_are_not_made_up(capsys, bert):
    from safetensors.torch import load_file, save_file

    state = load_file(bert / "model.safetensors")
    state.pop(next(name for name in state if "attention" in name and name.endswith("weight")))
    save_file(state, bert / "model.safetensors", metadata={"format": "pt"})
    said = call(capsys, "dissect", bert)
    assert said.code == 1
    assert "has no weights for" in said.all


def test_a_folder_without_words(capsys, bert):
    for path in [*bert.glob("tokenizer*"), *bert.glob("*vocab*"), bert / "words.txt"]:
        path.unlink()
    said = call(capsys, "dissect", bert, "--text", "sentences.txt")
    assert said.code == 2
    assert "has no tokenizer: none of tokenizer.json, vocab.txt" in said.all


def test_invalid_text_files_are_refused(capsys, bert, empty_place):
    (empty_place / "empty.txt").write_text("\n \n")
    assert "contains no sentence" in call(capsys, "dissect", bert, "--text", "empty.txt").all
    (empty_place / "odd.txt").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in call(capsys, "dissect", bert, "--text", "odd.txt").all


def test_the_extra_is_named_where_it_is_missing(capsys, bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = call(capsys, "dissect", bert)
    assert said.code == 2
    assert "pip install 'thruway[transformers]'" in said.all
