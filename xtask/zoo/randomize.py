"""Random weights under which no part of a network is degenerate."""

import torch

# Fewer values than this say nothing about a channel's spread.
LEAST_VALUES = 8
# Samples that statistics are taken of, and the most values of all of them.
SAMPLES = 16
SETTLING_VALUES = 2_500_000


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Gives every constant parameter random values, in place.

    Builders start norms at one, biases and tokens at zero, and layer scales close to zero: a network
    of those would look the same however it is pruned.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or parameter.numel() < 2:
                continue
            first = parameter.flatten()[0]
            if not bool((parameter == first).all()):
                continue
            noise = torch.rand(parameter.shape, generator=generator)
            if float(first) == 0.0:
                parameter.copy_(0.2 * (noise - 0.5))
            else:
                parameter.copy_(0.5 + noise)


def several(value: torch.Tensor) -> torch.Tensor:
    """Returns a batch like an input of one picture, so that its statistics are not those of one.

    A deep network that is normalised to a single picture magnifies every rounding on others.
    """
    batch = min(SAMPLES, SETTLING_VALUES // max(value.numel(), 1))
    if value.dim() < 4 or value.shape[0] != 1 or batch < 2:
        return value
    return torch.randn(batch, *value.shape[1:])


def settle_batch_norms(model: torch.nn.Module, run, seed: int) -> None:
    """Sets the statistics of every batch normalisation close to those of one run, each channel a
    little off, so that values keep their size from layer to layer as in a trained network."""
    generator = torch.Generator().manual_seed(seed + 1)
    hooks = [
        module.register_forward_pre_hook(lambda m, args: _settle(m, args[0], generator))
        for module in model.modules()
        if isinstance(getattr(module, "running_var", None), torch.Tensor)
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()


def _settle(module: torch.nn.Module, x: torch.Tensor, generator: torch.Generator) -> None:
    channels = module.running_var.numel()
    if x.dim() < 2 or x.shape[1] != channels:
        return
    rows = x.detach().float().transpose(0, 1).reshape(channels, -1)
    whole = rows.var().clamp(min=1e-4)
    if rows.shape[1] >= LEAST_VALUES:
        mean, var = rows.mean(1), rows.var(1)
    else:
        mean, var = rows.mean().expand(channels), whole.expand(channels)
    off = lambda: torch.rand(channels, generator=generator)
    var = torch.maximum(var, 0.05 * whole)
    module.running_mean.copy_(mean + 0.2 * var.sqrt() * (off() - 0.5))
    module.running_var.copy_(var * (0.75 + 0.5 * off()))
