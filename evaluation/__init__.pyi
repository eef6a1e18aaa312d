from .background import background_fidelity as background_fidelity
from .overlap import mean_iou as mean_iou
from .run import evaluate as evaluate
