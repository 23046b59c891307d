"""Low-rank adapters over a frozen model (arXiv 2106.09685), which may be held in 4 bits (QLoRA, arXiv 2305.14314).

In: a whole model and the recipe's `lora`. Out: the same model, of which adapters alone learn, in float32; their files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr_bench.engines.locate import hub_place
from zephyr_bench.engines.model_files import ADAPTER_WEIGHTS, is_adapter
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, did_you_mean, first_line
from zephyr_bench.recipe import Lora


def quantized(model: Any, *, dtype: Any, device: str) -> Any:
    """Its linear layers in 4 bits, all but the head: NF4, constants quantised too, products in `dtype` (section 3).

    A model merged before is quantised once, after the merge. Raises UserError without bitsandbytes.
    """
    from transformers import BitsAndBytesConfig

    need_bitsandbytes("lora.quantize: nf4", instead="quantize to null")
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    made = type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=model.state_dict(),
        dtype=dtype,
        quantization_config=config,
        device_map={"": device},
    )
    made.generation_config = model.generation_config
    for layer in made.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # else a try packs weights, and what is packed has no gradient
    return made


def need_bitsandbytes(what: str, *, instead: str) -> Any:
    """The package. Raises UserError where it is absent."""
    try:
        import bitsandbytes
    except ImportError:
        raise UserError(
            f"{what} needs bitsandbytes: pip install 'zephyr-bench[qlora]', or --set the stage's {instead}."
        ) from None
    return bitsandbytes


def add_adapters(model: Any, lora: Lora, *, base: ModelSource) -> None:
    """Into the layers that `targets` names, new ones that change nothing yet. Raises UserError for unfit targets.

    `base` goes into adapter_config.json, unless it is an adapter: peft's AutoPeftModel would leave that out in silence.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    _check_targets(model, lora)
    config = LoraConfig(
        base_model_name_or_path=None if is_adapter(base.location) else hub_place(base.location)[0],
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        named = lora.targets if isinstance(lora.targets, str) else ", ".join(lora.targets)
        raise UserError(f"lora.targets: {named}: can't all be adapted: {first_line(error)}") from None
    for layer in _layers(model):
        layer.cast_input_dtype_enabled = False  # autocast does it, and keeps one copy for all that read it
    for part in model.parameters():
        if part.requires_grad:
            part.data = part.data.to(torch.float32)


def _check_targets(model: Any, lora: Lora) -> None:
    if isinstance(lora.targets, str):
        return
    names = {name: module for name, module in model.named_modules() if name}
    tied = (model.get_input_embeddings(), model.get_output_embeddings())
    for target in lora.targets:
        found = [module for name, module in names.items() if f".{name}".endswith(f".{target}")]
        if not found:
            known = {name.rpartition(".")[2] for name in names}
            raise UserError(f"lora.targets: the model has no module {target}.{did_you_mean(target, known)}")
        if any(module in tied for module in found):
            raise UserError(f"lora.targets: {target} is the head or the embeddings, often one; leave it out.")


def arithmetic(lora: Lora | None, *, mixed: bool) -> str:
    """What the frozen model's log-probabilities hang on beside its files. `mixed`: products are in bfloat16."""
    products = "bfloat16" if mixed else "float32"
    weights = (lora.quantize or products) if lora else "float32"
    return products if weights == "float32" else f"{products} over {weights} weights"


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """The frozen model as it was; nothing changes where there are no adapters."""
    layers = _layers(model)
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)


def _layers(model: Any) -> list[Any]:
    if not hasattr(model, "peft_config"):
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def save_adapters(model: Any, folder: Path) -> None:
    """As peft's save_pretrained writes them, with the model's generation config; none of the base's weights."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    (config,) = model.peft_config.values()
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    named = {f"base_model.model.{name}": part.detach().cpu().contiguous() for name, part in state.items()}
    save_file(named, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config.inference_mode = True
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
