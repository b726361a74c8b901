"""Hugging Face transformers for text and sound, tiny and with random weights."""

import torch
import transformers as hf

from .zoo_rows import Case, each, identity
from .zoo_vision import IMAGE, images

TEXT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT = {
    "vocab_size": 50,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SEQUENCES = {
    "vocab_size": 50,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def ids():
    return torch.randint(3, 50, (2, 6))


def words():
    return {"input_ids": ids()}


def text():
    return {"input_ids": ids(), "use_cache": False}


def masked():
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": ids(), "attention_mask": mask}


def labelled():
    tokens = ids()
    return {"input_ids": tokens, "labels": tokens, "use_cache": False}


def pair():
    return {"input_ids": ids(), "decoder_input_ids": ids(), "use_cache": False}


BERT = each(
    range(2),
    # attention.output adds and norms; the feed-forward part is split between intermediate and output
    identity("encoder.layer.{}.attention", "encoder.layer.{}.attention.output.dense"),
    identity("encoder.layer.{}", "encoder.layer.{}.output.dense"),
)
LLAMA = each(
    range(2),
    identity("model.layers.{}.self_attn", "model.layers.{}.self_attn.o_proj"),
    identity("model.layers.{}.mlp", "model.layers.{}.mlp.down_proj"),
)
# BART's and Whisper's feed-forward part is two layers that lie in the block itself: fc1 has a few biases more.
ENCODER = each(
    range(2),
    identity("encoder.layers.{}.self_attn", "encoder.layers.{}.self_attn.out_proj"),
    identity("encoder.layers.{}.fc1", "encoder.layers.{}.fc2"),
)
DECODER = each(
    range(2),
    identity("decoder.layers.{}.self_attn", "decoder.layers.{}.self_attn.out_proj"),
    identity("decoder.layers.{}.encoder_attn", "decoder.layers.{}.encoder_attn.out_proj"),
    identity("decoder.layers.{}.fc1", "decoder.layers.{}.fc2"),
)
ALBERT = "encoder.albert_layer_groups.0.albert_layers.0"

TRANSFORMERS: dict[str, Case] = {
    # --- encoders of text
    "BERT": Case(lambda: hf.BertModel(hf.BertConfig(**TEXT)), masked, BERT),
    "ELECTRA": Case(lambda: hf.ElectraModel(hf.ElectraConfig(embedding_size=8, **TEXT)), words, BERT),
    "DeBERTa": Case(
        lambda: hf.DebertaV2Model(
            hf.DebertaV2Config(relative_attention=True, pos_att_type=["c2p", "p2c"], max_relative_positions=8, **TEXT)
        ),
        words,
        BERT,
    ),
    "DistilBERT": Case(
        lambda: hf.DistilBertModel(hf.DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=24)),
        words,
        each(
            range(2),
            identity("transformer.layer.{}.attention", "transformer.layer.{}.attention.out_lin"),
            identity("transformer.layer.{}.ffn", "transformer.layer.{}.ffn.lin2"),
        ),
    ),
    "ALBERT": Case(  # one layer, run twice
        lambda: hf.AlbertModel(hf.AlbertConfig(embedding_size=8, **TEXT)),
        words,
        (
            identity(f"{ALBERT}.attention", f"{ALBERT}.attention.dense@0"),
            identity(ALBERT, f"{ALBERT}.ffn_output@0"),
            identity(f"{ALBERT}.attention (2)", f"{ALBERT}.attention.dense@1"),
            identity(f"{ALBERT} (2)", f"{ALBERT}.ffn_output@1"),
        ),
    ),
    "FNet": Case(  # Fourier transforms in place of attention, without weights
        lambda: hf.FNetModel(hf.FNetConfig(**{k: v for k, v in TEXT.items() if "heads" not in k})),
        words,
        each(
            range(2),
            identity("encoder.layer.{}.fourier"),
            identity("encoder.layer.{}", "encoder.layer.{}.output.dense"),
        ),
    ),
    # --- decoders
    "GPT-2": Case(
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT)),
        labelled,  # with its loss
        each(
            range(2),
            identity("transformer.h.{}.attn", "transformer.h.{}.attn.c_proj"),
            identity("transformer.h.{}.mlp", "transformer.h.{}.mlp.c_proj"),
        ),
    ),
    "GPT-NeoX": Case(  # x + (mlp(n(x)) + attention(n'(x))): one branch of two parts, and so the next two
        lambda: hf.GPTNeoXModel(hf.GPTNeoXConfig(**TEXT)),
        text,
        each(range(2), identity("layers.{}", "layers.{}.attention.dense", "layers.{}.mlp.dense_4h_to_h")),
    ),
    "GPT-J": Case(
        lambda: hf.GPTJModel(hf.GPTJConfig(rotary_dim=4, **GPT)),
        text,
        each(range(2), identity("h.{}", "h.{}.attn.out_proj", "h.{}.mlp.fc_out")),
    ),
    "Phi": Case(
        lambda: hf.PhiModel(hf.PhiConfig(**TEXT)),
        text,
        each(range(2), identity("layers.{}", "layers.{}.self_attn.dense", "layers.{}.mlp.fc2")),
    ),
    "Cohere": Case(  # (x + attention(n(x))) + mlp(n(x)): two branches beside each other
        lambda: hf.CohereModel(hf.CohereConfig(num_key_value_heads=1, **TEXT)),
        text,
        each(
            range(2),
            identity("layers.{}.self_attn", "layers.{}.self_attn.o_proj"),
            identity("layers.{}.mlp", "layers.{}.mlp.down_proj"),
        ),
    ),
    "BLOOM": Case(  # ALiBi; the add lies in the attention, its norm outside
        lambda: hf.BloomModel(hf.BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2)),
        text,
        each(
            range(2),
            identity("h.{}.self_attention", "h.{}.self_attention.dense"),
            identity("h.{}.mlp", "h.{}.mlp.dense_4h_to_h"),
        ),
    ),
    "Llama": Case(lambda: hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=1, **TEXT)), text, LLAMA),
    "Mistral": Case(
        lambda: hf.MistralForCausalLM(hf.MistralConfig(num_key_value_heads=1, sliding_window=4, **TEXT)), text, LLAMA
    ),
    "Qwen2": Case(lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(num_key_value_heads=1, **TEXT)), text, LLAMA),
    "Gemma 2": Case(  # a norm on the branch, before the add
        lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(num_key_value_heads=1, head_dim=8, **TEXT)), text, LLAMA
    ),
    "Mixtral": Case(  # experts
        lambda: hf.MixtralForCausalLM(hf.MixtralConfig(num_key_value_heads=1, num_local_experts=3, **TEXT)),
        text,
        each(
            range(2),
            identity("model.layers.{}.self_attn", "model.layers.{}.self_attn.o_proj"),
            identity("model.layers.{}.mlp", "model.layers.{}.mlp"),
        ),
    ),
    "Mamba": Case(  # the recurrence and D·x inside the mixer are none
        lambda: hf.MambaModel(hf.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)),
        text,
        each(range(2), identity("layers.{}", "layers.{}.mixer.out_proj")),
    ),
    "RWKV": Case(
        lambda: hf.RwkvModel(
            hf.RwkvConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, attention_hidden_size=16)
        ),
        text,
        each(
            range(2),
            identity("blocks.{}.attention", "blocks.{}.attention.output"),
            identity("blocks.{}.feed_forward", "blocks.{}.feed_forward.value"),
        ),
    ),
    # --- both
    "T5": Case(
        lambda: hf.T5Model(hf.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)),
        pair,
        each(
            range(2),
            identity("encoder.block.{}.layer.0", "encoder.block.{}.layer.0.SelfAttention.o"),
            identity("encoder.block.{}.layer.1", "encoder.block.{}.layer.1.DenseReluDense.wo"),
        )
        + each(
            range(2),
            identity("decoder.block.{}.layer.0", "decoder.block.{}.layer.0.SelfAttention.o"),
            identity("decoder.block.{}.layer.1", "decoder.block.{}.layer.1.EncDecAttention.o"),
            identity("decoder.block.{}.layer.2", "decoder.block.{}.layer.2.DenseReluDense.wo"),
        ),
    ),
    "BART": Case(lambda: hf.BartModel(hf.BartConfig(max_position_embeddings=16, **SEQUENCES)), pair, ENCODER + DECODER),
    "Whisper": Case(
        lambda: hf.WhisperModel(
            hf.WhisperConfig(num_mel_bins=4, max_source_positions=8, max_target_positions=8, **SEQUENCES)
        ),
        lambda: {"input_features": torch.randn(2, 4, 16), "decoder_input_ids": ids(), "use_cache": False},
        ENCODER + DECODER,
    ),
    "wav2vec 2.0": Case(  # a convolution for positions is a branch like any other: x + gelu(conv(x))
        lambda: hf.Wav2Vec2Model(
            hf.Wav2Vec2Config(
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=24,
                conv_dim=(8, 8),
                conv_stride=(5, 2),
                conv_kernel=(10, 3),
                num_feat_extract_layers=2,
                num_conv_pos_embeddings=4,
                num_conv_pos_embedding_groups=2,
            )
        ),
        lambda: {"input_values": torch.randn(1, 400)},
        (
            identity("encoder", "encoder.pos_conv_embed"),
            *each(
                range(2),
                identity("encoder.layers.{}.attention", "encoder.layers.{}.attention.out_proj"),
                identity("encoder.layers.{}.feed_forward", "encoder.layers.{}.feed_forward.output_dense"),
            ),
        ),
    ),
    "CLIP": Case(  # two towers, the images' first
        lambda: hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=IMAGE)),
        lambda: {**words(), **images()},
        tuple(
            row
            for tower in ("vision", "text")
            for row in each(
                [f"{tower}_model.encoder.layers.{place}" for place in range(2)],
                identity("{}.self_attn", "{}.self_attn.out_proj"),
                identity("{}.mlp", "{}.mlp.fc2"),
            )
        ),
    ),
}
