"""Removal from language models of Hugging Face: cached decoding, generation, and folders for plain transformers."""

import pytest
import torch

from thruway.dissecting import dissect

transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
HEADS = {"num_key_value_heads": 1, "head_dim": 8}
DECODERS = {
    "Llama": lambda: transformers.LlamaConfig(**SIZES, num_key_value_heads=1),
    "GPT-2": lambda: transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=4, n_head=2, n_positions=64),
    "Qwen3": lambda: transformers.Qwen3Config(**SIZES, **HEADS),
    "Gemma3": lambda: transformers.Gemma3TextConfig(
        **SIZES,
        **HEADS,
        sliding_window=4,
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    ),
    "GPT-NeoX": lambda: transformers.GPTNeoXConfig(**SIZES),
}
IDS = torch.randint(60, (2, 9), generator=torch.Generator().manual_seed(1))


def decoder(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = DECODERS[name]()
        config.eos_token_id = config.bos_token_id = config.pad_token_id = None
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for parameter in model.parameters():  # so that branches change the output visibly
                parameter += 0.2 * torch.randn_like(parameter)
    return model, dissect(model, {"input_ids": IDS[:1], "use_cache": False})


def layers_of(d):
    """Return the indices of the branches of each layer."""
    layers = {}
    for branch in d.branches:
        number = next(int(part) for part in branch.name.split(".") if part.isdigit())
        layers.setdefault(number, []).append(branch.index)
    return layers


def step_by_step(model, ids):
    """Return the logits of decoding one token at a time with a cache."""
    cache, logits = None, []
    for place in range(ids.shape[1]):
        out = model(input_ids=ids[:, place : place + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits)
    return torch.cat(logits, 1)


def cuts(d):
    """Whole layers; the first attention; all attentions; one MLP and an attention; everything."""
    layers = layers_of(d)
    attentions = [own[0] for own in layers.values() if len(own) > 1]
    yield layers[1] + layers[2]
    yield layers[0]
    if attentions:  # GPT-NeoX adds both branches at once
        yield attentions[:1]
        yield attentions
        yield [layers[3][1], layers[1][0]]


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_cached_decoding_is_that_of_a_full_pass(name):
    _model, d = decoder(name)
    for which in cuts(d):
        small = d.remove(which)
        full = small(input_ids=IDS, use_cache=False).logits
        torch.testing.assert_close(full, d.without(which)(input_ids=IDS, use_cache=False).logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(step_by_step(small, IDS), full, rtol=1e-4, atol=1e-4)
        generated = [
            small.generate(IDS[:, :3], max_new_tokens=8, do_sample=False, use_cache=cached) for cached in (True, False)
        ]
        assert torch.equal(*generated), which
        assert generated[0].shape == (2, 11)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_whole_layers_are_loaded_by_plain_transformers(name, tmp_path):
    model, d = decoder(name)
    layers = layers_of(d)
    small = d.remove(layers[0], layers[2])
    assert small.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == 4
    small.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    expected = d.without(layers[0], layers[2])(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(loaded(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(step_by_step(loaded, IDS), expected, rtol=1e-4, atol=1e-4)
    kept = sum(p.numel() for p in model.parameters()) - sum(
        sum(p.numel() for p in layer.parameters()) for layer in (layer_list(model)[0], layer_list(model)[2])
    )
    assert sum(p.numel() for p in loaded.parameters()) == kept


def layer_list(model):
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 4)
