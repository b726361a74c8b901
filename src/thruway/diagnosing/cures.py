"""The table of cures that findings suggest. `prescribe` tries those that it can apply to a model."""

from thruway.diagnosing.finding import Cure

__all__ = ["CURES"]

_BENGIO = "Bengio 2012 (Practical recommendations for gradient-based training), sec. 3.1"
_GLOROT = "Glorot & Bengio 2010, eq. 16"
_ORTHOGONAL = "Saxe, McClelland & Ganguli 2014; Schoenholz et al. 2017"
_HE = "He et al. 2015 (Delving deep into rectifiers), eq. 10"
_HIGHWAY = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 2"

CURES: dict[str, Cure] = {
    cure.name: cure
    for cure in (
        Cure(
            "critical_init", "initialise the weights at the critical point of the activation", "Schoenholz et al. 2017"
        ),
        Cure("skip", "add skip connections around blocks whose input and output have the same shape", "He et al. 2016"),
        Cure("highway", "use highway layers, with a gate bias chosen by depth", _HIGHWAY),
        Cure("relu", "use ReLU, with orthogonal weights of He's gain sqrt(2)", _HE),
        Cure("leaky_relu", "use leaky ReLU, which has no flat part", "Maas, Hannun & Ng 2013"),
        Cure("tanh", "use tanh, with orthogonal weights at its critical point, of gain 1", _ORTHOGONAL),
        Cure("scale_input", "standardise the inputs to mean 0 and standard deviation 1", "LeCun et al. 1998, sec. 4.3"),
        Cure("lower_lr", "divide the learning rate by 10", _BENGIO),
        Cure("much_lower_lr", "divide the learning rate by 100", _BENGIO),
        Cure("raise_lr", "multiply the learning rate by 10", _BENGIO),
        Cure("much_raise_lr", "multiply the learning rate by 100", _BENGIO),
        Cure("clip", "clip the norm of the gradient", "Pascanu, Mikolov & Bengio 2013, algorithm 1"),
        Cure("normalise", "normalise the input of every activation", "Ioffe & Szegedy 2015; Ba, Kiros & Hinton 2016"),
        Cure("add_parameters", "pass all trainable parameters to the optimizer", "PyTorch documentation, torch.optim"),
        Cure(
            "zero_grad",
            "call optimizer.zero_grad() in every step",
            "PyTorch documentation, torch.optim.Optimizer.zero_grad",
        ),
        Cure(
            "logits",
            "return the logits from the model: the loss applies softmax itself",
            "PyTorch documentation, torch.nn.CrossEntropyLoss",
        ),
        Cure(
            "unfreeze",
            "set requires_grad of the parameters to True, and do not detach their outputs",
            "PyTorch documentation, Autograd mechanics",
        ),
        Cure("break_symmetry", "draw the weights at random instead of setting them to a constant", _GLOROT),
        Cure("reset_bias", "start the biases at zero", "Glorot & Bengio 2010, sec. 2.3"),
        Cure("gate_bias", "start the bias of the transform gates below 0, by depth", _HIGHWAY),
    )
}
