"""Advice that findings give beside the cures of CURES: changes of the user's code that no trial can make."""

from thruway.diagnosing.finding import Cure

__all__ = ["ADVICE"]

ADVICE: dict[str, Cure] = {
    cure.name: cure
    for cure in (
        Cure(
            "check_data",
            "find the examples with NaN or infinite values, and drop or repair them",
            "PyTorch documentation, torch.isfinite",
        ),
        Cure(
            "check_batch",
            "check each batch with torch.isfinite before the step, and skip bad ones",
            "PyTorch documentation, torch.isfinite",
        ),
        Cure(
            "unmask",
            "leave one position of every row unmasked, or set such rows to 0 after softmax",
            "PyTorch documentation, torch.nn.functional.scaled_dot_product_attention",
        ),
        Cure(
            "epsilon",
            "add a small epsilon inside of the logarithm, the root or the division",
            "PyTorch documentation, Numerical accuracy",
        ),
        Cure(
            "loss_on_logits",
            "use the loss on logits: cross_entropy or binary_cross_entropy_with_logits",
            "PyTorch documentation, torch.nn.BCEWithLogitsLoss",
        ),
        Cure(
            "detect_anomaly",
            "find the operation with torch.autograd.set_detect_anomaly(True)",
            "PyTorch documentation, torch.autograd.set_detect_anomaly",
        ),
        Cure(
            "check_input",
            "look at a batch before the model: a transform, a cast to integers or a scale may make it constant",
            "PyTorch documentation, torch.utils.data",
        ),
        Cure(
            "check_forward",
            "look in forward for what removes the input: a mask, a factor of 0, a wrong dimension",
            "Ours",
        ),
        Cure(
            "lower_dropout",
            "lower the probability of the dropout: at 1 it drops every value",
            "PyTorch documentation, torch.nn.Dropout",
        ),
        Cure(
            "norm_size",
            "normalise over more than one value: over one, the result is 0 or the bias",
            "PyTorch documentation, torch.nn.LayerNorm",
        ),
        Cure(
            "check_sign",
            "minimise the loss: no minus sign before it, and maximize=False in the optimizer",
            "PyTorch documentation, torch.optim.SGD",
        ),
        Cure(
            "log_softmax",
            "pass the outputs through log_softmax, or use cross_entropy in place of nll_loss",
            "PyTorch documentation, torch.nn.NLLLoss",
        ),
        Cure(
            "no_detach",
            "remove detach(), no_grad(), .data or .item() between these parameters and the loss",
            "PyTorch documentation, torch.Tensor.detach",
        ),
        Cure(
            "schedule",
            "call scheduler.step() once an epoch, or let the schedule end with the training",
            "PyTorch documentation, torch.optim",
        ),
        Cure(
            "zero_grad_first",
            "call optimizer.zero_grad() before backward(), not between backward() and step()",
            "PyTorch documentation, torch.optim",
        ),
        Cure(
            "no_gradient_mask",
            "remove the hook, the mask or the assignment that takes the gradient away",
            "PyTorch documentation, torch.Tensor.register_hook",
        ),
        Cure(
            "watch_other",
            "check the parameters of that network with torch.isfinite, and watch it as well",
            "PyTorch documentation, torch.isfinite",
        ),
        Cure(
            "shorten_warmup",
            "let the learning rate reach its highest value within a few thousand steps",
            "Vaswani et al. 2017, sec. 5.3",
        ),
        Cure(
            "unscale_loss",
            "take the mean of the loss over the examples, and divide it by nothing else",
            "PyTorch documentation, torch.nn.CrossEntropyLoss",
        ),
        Cure(
            "no_flat_operation",
            "replace the operation by a smooth one, or pass the gradient on as it is: x + (round(x) - x).detach()",
            "Bengio, Leonard & Courville 2013 (Estimating or Propagating Gradients), straight-through estimator",
        ),
        Cure(
            "group_lr",
            "give every parameter group a learning rate above 0; set requires_grad to False for what shall not change",
            "PyTorch documentation, torch.optim",
        ),
        Cure(
            "register_layers",
            "keep layers in an nn.ModuleList and weights in nn.Parameter, and pass them to the optimizer",
            "PyTorch documentation, torch.nn.ModuleList",
        ),
        Cure("reset_gate_bias", "start the bias of this gate near 0", "Glorot & Bengio 2010, sec. 2.3"),
    )
}
