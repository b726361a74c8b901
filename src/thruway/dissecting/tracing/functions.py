"""Tables of PyTorch functions by their effect on a signal."""

from collections.abc import Callable
from typing import Any

__all__ = [
    "ADDS",
    "CASTS",
    "COMPLEMENTS",
    "FUSED_ADDS",
    "LINEAR",
    "MAGNITUDES",
    "METADATA",
    "NORMS",
    "PIECES",
    "PRODUCTS",
    "RESIZES",
    "SCALINGS",
    "SHAPE_ONLY",
    "SPECTRA",
    "SQUASHES",
    "SUBTRACTIONS",
    "TRANSPARENT",
    "name_of",
]


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


ADDS = _words("add")
# x - f(x): only the subtrahend can be the branch
SUBTRACTIONS = _words("sub subtract")
# shortcut + product of two tensors, in one call
FUSED_ADDS = _words("addcmul addmm addbmm baddbmm addmv")
PRODUCTS = _words("mul multiply")
COMPLEMENTS = _words("rsub")
# Functions that measure the size of a difference
MAGNITUDES = _words("exp exp2 abs pow square")
SQUASHES = _words("sigmoid softmax hardsigmoid expit")

# Another view, layout or type of the same signal. Dropout does nothing in evaluation mode.
TRANSPARENT = _words(
    "view view_as reshape reshape_as flatten unflatten ravel transpose permute movedim moveaxis swapaxes swapdims "
    "contiguous clone to type type_as float double half bfloat16 detach alias data requires_grad positive "
    "squeeze unsqueeze expand expand_as broadcast_to T mT H mH t dropout dropout1d dropout2d dropout3d alpha_dropout "
    "feature_dropout feature_alpha_dropout clamp nan_to_num cpu cuda"
)
# A part of the signal
PIECES = _words(
    "getitem select narrow chunk split unbind unsafe_chunk unsafe_split split_with_sizes tensor_split index_select "
    "gather hsplit vsplit dsplit"
)
# The same signal in another size, without weights
RESIZES = _words(
    "pad constant_pad_nd avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d interpolate "
    "upsample pixel_shuffle pixel_unshuffle cat concat concatenate repeat repeat_interleave"
)
NORMS = _words("batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize")
LINEAR = _words(
    "linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm mv addmm "
    "baddbmm addbmm einsum tensordot"
)
# Maps that mix all positions or channels without weights. Their output counts as a branch.
SPECTRA = _words(
    "fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2 fft_ifftn fft_rfft fft_rfft2 fft_rfftn fft_irfft fft_irfft2 "
    "fft_irfftn fft_hfft fft_ihfft stft istft"
)
# Scaling or shifting, if the other operands are numbers, constants or weights
SCALINGS = _words("mul multiply div divide true_divide add sub subtract neg")

# Functions that use the shape and type of their argument, but not its elements
SHAPE_ONLY = _words(
    "new_empty new_zeros new_ones new_full new_tensor new_empty_strided zeros_like ones_like empty_like full_like "
    "rand_like randn_like randint_like"
)
# Casts to the dtype and device of their second tensor, whose elements they do not read
CASTS = _words("to type_as")
# Queries about a tensor that do not read its elements
METADATA = _words(
    "size dim ndim ndimension shape dtype device layout numel nelement stride is_contiguous element_size itemsize "
    "nbytes is_floating_point is_complex is_signed is_conj is_neg is_sparse is_quantized is_meta is_cuda is_cpu "
    "is_mps is_xpu is_nested is_leaf is_inference is_tensor is_storage is_same_size is_mkldnn is_pinned "
    "requires_grad grad_fn retains_grad retain_grad storage_offset len hash get_device names has_names type "
    "result_type can_cast promote_types output_nr register_hook register_post_accumulate_grad_hook "
    "version is_view untyped_storage dim_order is_sparse_csr is_shared"
)

_PLAIN = {
    "iadd": "add",
    "radd": "add",
    "imul": "mul",
    "rmul": "mul",
    "isub": "sub",
    "truediv": "div",
    "itruediv": "div",
    "imatmul": "matmul",
    "rmatmul": "matmul",
}


def name_of(function: Callable[..., Any]) -> str:
    """Return one name for a function, its method, its operator and its in-place form.

    >>> import torch
    >>> [name_of(f) for f in (torch.add, torch.Tensor.__iadd__, torch.Tensor.relu_, torch.Tensor.shape.__get__)]
    ['add', 'add', 'relu', 'shape']
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in ("__get__", "__set__", "__delete__"):
        owner = getattr(getattr(function, "__self__", None), "__name__", name)
        return str(owner) if name == "__get__" else f"{owner} {name.strip('_')}"
    bare = name.strip("_")
    return _PLAIN.get(bare, bare)
