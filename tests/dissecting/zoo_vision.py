"""Hugging Face networks for images, tiny and with random weights."""

import torch
import transformers as hf

from .zoo_rows import Case, each, identity, projection

IMAGE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}


def images(size=16):
    return {"pixel_values": torch.randn(2, 3, size, size)}


VIT = each(
    range(2),
    identity("layers.{}.attention", "layers.{}.attention.o_proj"),
    identity("layers.{}.mlp", "layers.{}.mlp.fc2"),
)
VISION: dict[str, Case] = {
    "ViT": Case(lambda: hf.ViTModel(hf.ViTConfig(**IMAGE)), images, VIT),
    "DeiT": Case(lambda: hf.DeiTModel(hf.DeiTConfig(**IMAGE)), images, VIT),
    "BEiT": Case(  # relative positions, LayerScale
        lambda: hf.BeitModel(hf.BeitConfig(use_relative_position_bias=True, **IMAGE)), images, VIT
    ),
    "DINOv2": Case(  # LayerScale and drop path
        lambda: hf.Dinov2Model(hf.Dinov2Config(drop_path_rate=0.1, **IMAGE)),
        images,
        each(
            range(2),
            identity("encoder.layer.{}.attention", "encoder.layer.{}.attention.o_proj"),
            identity("encoder.layer.{}.mlp", "encoder.layer.{}.mlp.fc2"),
        ),
    ),
    "Swin": Case(  # windows, shifted in every second block
        lambda: hf.SwinModel(
            hf.SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4)
        ),
        images,
        each(
            ("0.blocks.0", "0.blocks.1", "1.blocks.0"),
            identity("encoder.layers.{}.attention", "encoder.layers.{}.attention.o_proj"),
            identity("encoder.layers.{}.mlp", "encoder.layers.{}.mlp.fc2"),
        ),
    ),
    "Swin V2": Case(  # norms behind the branches, continuous positions
        lambda: hf.Swinv2Model(
            hf.Swinv2Config(image_size=16, patch_size=2, embed_dim=8, depths=[2], num_heads=[2], window_size=4)
        ),
        images,
        each(
            range(2),
            identity("encoder.layers.0.blocks.{}.attention", "encoder.layers.0.blocks.{}.layernorm_before"),
            identity("encoder.layers.0.blocks.{}.intermediate", "encoder.layers.0.blocks.{}.layernorm_after"),
        ),
    ),
    "SegFormer": Case(
        lambda: hf.SegformerModel(
            hf.SegformerConfig(
                hidden_sizes=[8, 16],
                depths=[1, 1],
                num_attention_heads=[1, 1],
                num_encoder_blocks=2,
                sr_ratios=[2, 1],
                patch_sizes=[7, 3],
                strides=[4, 2],
                mlp_ratios=[2, 2],
            )
        ),
        images,
        each(
            range(2),
            identity("stages.{}.blocks.0.attention", "stages.{}.blocks.0.attention.o_proj"),
            identity("stages.{}.blocks.0.mlp", "stages.{}.blocks.0.mlp.fc2"),
        ),
    ),
    "PoolFormer": Case(  # pool(n(x)) - n(x) mixes the positions
        lambda: hf.PoolFormerModel(
            hf.PoolFormerConfig(
                hidden_sizes=[8, 16],
                depths=[1, 1],
                num_encoder_blocks=2,
                patch_sizes=[7, 3],
                strides=[4, 2],
                padding=[2, 1],
                mlp_ratio=2.0,
            )
        ),
        images,
        each(
            range(2),
            identity("encoder.block.{}.0.before_norm", "encoder.block.{}.0.pooling"),
            identity("encoder.block.{}.0.output", "encoder.block.{}.0.output"),
        ),
    ),
    "MobileViT": Case(
        # MobileNet blocks with one size in and out; transformers between them, whose way round is concatenated
        lambda: hf.MobileViTModel(
            hf.MobileViTConfig(hidden_sizes=[8, 8, 8], neck_hidden_sizes=[8] * 7, num_attention_heads=2, image_size=32)
        ),
        lambda: images(32),
        each(
            ("0.layer.0", "1.layer.1", "1.layer.2"),
            identity("encoder.layer.{}", "encoder.layer.{}.reduce_1x1"),
        )
        + each(
            [
                f"{stage}.transformer.layer.{place}"
                for stage, depth in ((2, 2), (3, 4), (4, 3))
                for place in range(depth)
            ],
            identity("encoder.layer.{}.attention", "encoder.layer.{}.attention.output.dense"),
            identity("encoder.layer.{}.intermediate", "encoder.layer.{}.output.dense"),
        ),
    ),
    "ConvNeXt": Case(  # LayerScale
        lambda: hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[2, 1], num_stages=2)),
        lambda: images(32),
        each(
            ("0.layers.0", "0.layers.1", "1.layers.0"),
            identity("encoder.stages.{}", "encoder.stages.{}.pwconv2"),
        ),
    ),
    "ConvNeXt V2": Case(  # a response norm inside, which adds x·g + b + x
        lambda: hf.ConvNextV2Model(hf.ConvNextV2Config(hidden_sizes=[8, 16], depths=[2, 1], num_stages=2)),
        lambda: images(32),
        each(
            ("0.layers.0", "0.layers.1", "1.layers.0"),
            identity("encoder.stages.{}", "encoder.stages.{}.pwconv2"),
        ),
    ),
    "ResNet": Case(  # bottlenecks; 8 channels stay 8 in the first stage
        lambda: hf.ResNetModel(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], layer_type="bottleneck")
        ),
        images,
        (
            identity("encoder.stages.0.layers.0", "encoder.stages.0.layers.0.layer.2"),
            identity("encoder.stages.0.layers.1", "encoder.stages.0.layers.1.layer.2"),
            projection("encoder.stages.1.layers.0", "encoder.stages.1.layers.0.layer.2"),
            identity("encoder.stages.1.layers.1", "encoder.stages.1.layers.1.layer.2"),
        ),
    ),
    "RegNet": Case(  # groups, squeeze-and-excitation inside; the first stage halves the map too
        lambda: hf.RegNetModel(
            hf.RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], groups_width=8, layer_type="y")
        ),
        images,
        (
            projection("encoder.stages.0.layers.0", "encoder.stages.0.layers.0.layer.3"),
            projection("encoder.stages.1.layers.0", "encoder.stages.1.layers.0.layer.3"),
            identity("encoder.stages.1.layers.1", "encoder.stages.1.layers.1.layer.3"),
        ),
    ),
    "EfficientNet": Case(  # the first block of each stage has no way round
        lambda: hf.EfficientNetModel(
            hf.EfficientNetConfig(
                image_size=16,
                width_coefficient=0.1,
                depth_coefficient=1.0,
                hidden_dim=128,
                in_channels=[32, 16],
                out_channels=[16, 16],
                kernel_sizes=[3, 3],
                strides=[1, 2],
                num_block_repeats=[1, 3],
                expand_ratios=[1, 2],
                depthwise_padding=[],
            )
        ),
        images,
        each((2, 3), identity("encoder.blocks.{}", "encoder.blocks.{}.projection.project_bn")),
    ),
}
