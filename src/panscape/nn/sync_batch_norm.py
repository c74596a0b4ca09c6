"""Synchronised BatchNorm: statistics over the batch of all processes, on any device.

torch's own SyncBatchNorm runs on accelerators only. :class:`SyncedBatchNorm2d` does the same with any backend of
``torch.distributed``, so that training on several CPU processes is equivalent to training on one. A norm over one value
has no variance: :func:`check_batch_norms` rejects such a batch before the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from panscape.errors import InvalidArgumentError

_DIMS = (0, 2, 3)  # all but the channels


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics cover the samples of all processes.

    Parameters, buffers and their names are those of :class:`torch.nn.BatchNorm2d`. In eval mode, and with a single
    process, it behaves like one. Every process must run it equally often, forward and backward; batches may differ in
    size. Children, if any, are applied to the result in their order: see :func:`convert_sync_batchnorm`.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that BatchNorm2d gives it
        """Map [B, C, H, W] to the same shape and type; statistics are computed in at least float32.

        Raises:
            InvalidArgumentError: in train mode, if all processes together have only one value per channel.
        """
        is_local = not self.training or _num_processes() == 1
        result = super().forward(input) if is_local else self._over_all(input)
        for child in self.children():
            result = child(result)
        return result

    def _over_all(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        result, mean, var, count = _Normalize.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            tracked = cast(Tensor, self.num_batches_tracked)
            tracked.add_(1)
            pace = self.momentum if self.momentum is not None else 1 / int(tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), pace)
            # As in torch: the running variance is the unbiased estimate, normalisation uses the biased batch variance.
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), pace)
        return cast(Tensor, result)


class _Normalize(Function):
    """Normalisation over all processes and its gradient: one collective each way, of a few numbers per channel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        mean, var, count = _moments(x)
        if count <= 1:
            raise InvalidArgumentError(
                f"expected more than one value per channel to normalise over in training, got {count:.0f} in all "
                "processes together; use a larger batch or larger crops"
            )
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.count = count
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps), mean, var, count

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        gradient = gradients[0].to(mean.dtype)
        normalized = (x.to(mean.dtype) - mean[:, None, None]).mul_(scale[:, None, None])
        for_bias = gradient.sum(_DIMS)
        for_weight = (gradient * normalized).sum(_DIMS)
        # Parameter gradients cover this process only, as in all other layers: they are reduced over processes later,
        # with the other gradients. The gradient of x is that of the loss of all processes.
        sums = torch.cat([for_bias, for_weight]).double()
        distributed.all_reduce(sums)
        shift, slope = (sums / ctx.count).to(mean.dtype)[:, None, None].chunk(2)
        factor = scale if weight is None else scale * weight
        for_x = (gradient - shift).sub_(normalized.mul_(slope)).mul_(factor[:, None, None]).to(x.dtype)
        return for_x, for_weight if weight is not None else None, for_bias if ctx.needs_input_grad[2] else None, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the mean and variance of each channel, and the number of values per channel, over all processes."""
    values = x if x.dtype == torch.float64 else x.float()
    num = x.numel() // x.shape[1]
    # The mean of squares minus the square of the mean would suffer from cancellation if the mean is large. Sums centred
    # on the mean of each process do not, and combine exactly (Chan, Golub, LeVeque: Algorithms for computing the sample
    # variance, 1983).
    mean = values.sum(_DIMS) / max(num, 1)
    squares = (values - mean[:, None, None]).square_().sum(_DIMS)
    own = torch.cat([mean.double(), squares.double(), mean.new_full((1,), num, dtype=torch.float64)])
    parts = [torch.empty_like(own) for _ in range(_num_processes())]
    distributed.all_gather(parts, own)
    means, sums, nums = torch.stack(parts).tensor_split((x.shape[1], 2 * x.shape[1]), dim=1)
    count = float(nums.sum())
    total_mean = (means * nums).sum(0) / count
    total_squares = sums.sum(0) + ((means - total_mean).square() * nums).sum(0)
    return total_mean.to(values.dtype), (total_squares / count).to(values.dtype), count


def _num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def num_missing_samples(network: nn.Module, num: int, device: torch.device) -> int:
    """Return how many samples this process must add so that the BatchNorms of a network have two in training.

    Norms over all processes need two in all of them together, to which the first process adds what is missing; then
    several processes see what one sees with the whole batch. All processes must call this equally often.

    Args:
        network: a part that takes as many samples as this process happens to have.
        num: number of samples of this process.
        device: on which processes communicate.
    """
    if not network.training:
        return 0
    if _num_processes() == 1 or not any(isinstance(m, SyncedBatchNorm2d | nn.SyncBatchNorm) for m in network.modules()):
        return max(0, 2 - num)
    total = torch.tensor(num, device=device)
    distributed.all_reduce(total)
    return max(0, 2 - int(total)) if distributed.get_rank() == 0 else 0


def convert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Make every BatchNorm2d in ``module`` normalise over all processes; parameters, buffers and names stay.

    Layers on CUDA are replaced by torch's SyncBatchNorm, others become :class:`SyncedBatchNorm2d`. timm's norms with an
    activation keep it.

    Args:
        module: on the training device; changed in place.

    Returns:
        ``module``; if it is itself a BatchNorm2d on CUDA, its replacement.

    Raises:
        InvalidArgumentError: a norm has a forward pass of its own, which the replacement would lose.
    """
    if not isinstance(module, nn.BatchNorm2d):
        for name, child in module.named_children():
            replacement = convert_sync_batchnorm(child)
            if replacement is not child:
                setattr(module, name, replacement)
        return module
    return module if isinstance(module, SyncedBatchNorm2d) else _replaced(module)


def _replaced(norm: nn.BatchNorm2d) -> nn.Module:
    children = [name for name, _ in norm.named_children()]
    has_own_forward = type(norm).forward is not nn.BatchNorm2d.forward
    if has_own_forward and children != ["drop", "act"]:  # those of timm's BatchNormAct2d, applied in this order
        raise InvalidArgumentError(
            f"expected norms of torch or timm to normalise over several processes, got {type(norm).__qualname__}; "
            "train without synchronised BatchNorm"
        )
    if norm.weight is not None and norm.weight.is_cuda:
        if not children:
            return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(norm))  # type: ignore[no-untyped-call]
        from timm.layers import norm_act

        convert: Any = norm_act.convert_sync_batchnorm  # torch's would drop the activation
        return cast(nn.Module, convert(norm))
    # Change the class instead of creating a new layer: references to the norm, its tensors and its hooks stay valid.
    norm.__class__ = SyncedBatchNorm2d
    return norm


@torch.no_grad()
def check_batch_norms(network: nn.Module, images: Tensor) -> None:
    """Reject a batch with which a trained BatchNorm would receive a single value per channel.

    torch rejects it as well, but names neither the layer nor a remedy. A batch of two or more never fails.

    Args:
        network: switched to train mode and run once; its statistics stay unchanged.
        images: a batch of the size of a training batch in one process; the values do not matter.

    Raises:
        InvalidArgumentError: a norm receives a single value per channel.
    """
    network.train()
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    hooks = [
        module.register_forward_pre_hook(_refuse_one_value(name, images.shape))
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, value in before:
            buffer.copy_(value)


def _refuse_one_value(name: str, shape: torch.Size) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def check(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        takes_statistics = norm.training or getattr(norm, "running_mean", None) is None
        if takes_statistics and x.numel() == x.shape[1]:
            # Relations normalise over categories or objects, whose number does not grow with larger crops.
            other = "more than one category" if name.startswith("relations.") else "larger crops (--augmentation.crop)"
            raise InvalidArgumentError(
                "expected more than one value per channel for BatchNorm in training, got a single one in "
                f"{name or 'the network'} with {shape[0]} image of {shape[2]}x{shape[3]} pixels in each process; use "
                "at least two images in each process (a larger --batch-size, fewer --devices or a lower "
                f"--grad-accum-steps) or {other}"
            )

    return check
