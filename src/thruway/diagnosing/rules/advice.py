"""Advice that findings give beside the cures of CURES: changes of the user's code that no trial can make."""

from thruway.diagnosing.finding import Cure

__all__ = ["ADVICE"]

ADVICE: dict[str, Cure] = {
    cure.name: cure
    for cure in (
        Cure("check_data", "find the examples with NaN or infinite values, and drop or repair them"),
        Cure("check_batch", "check each batch with torch.isfinite before the step, and skip bad ones"),
        Cure("unmask", "leave one position of every row unmasked, or set such rows to 0 after softmax"),
        Cure("epsilon", "add a small epsilon inside of the logarithm, the root or the division"),
        Cure("loss_on_logits", "use the loss on logits: cross_entropy or binary_cross_entropy_with_logits"),
        Cure("detect_anomaly", "find the operation with torch.autograd.set_detect_anomaly(True)"),
        Cure("check_forward", "look in forward for what removes the input: a mask, a factor of 0, a wrong dimension"),
        Cure("lower_dropout", "lower the probability of the dropout: at 1 it drops every value"),
        Cure("norm_size", "normalise over more than one value: over one, the result is 0 or the bias"),
        Cure("check_sign", "minimise the loss: no minus sign before it, and maximize=False in the optimizer"),
        Cure("log_softmax", "pass the outputs through log_softmax, or use cross_entropy in place of nll_loss"),
        Cure("no_detach", "remove detach(), no_grad(), .data or .item() between these parameters and the loss"),
        Cure("schedule", "call scheduler.step() once an epoch, or let the schedule end with the training"),
    )
}
