from . import diffusion as diffusion
from . import editing as editing
from . import errors as errors
from . import evaluation as evaluation
from . import guidance as guidance
from . import jobs as jobs
from . import photos as photos
from . import segmentation as segmentation
from . import toybox as toybox
from . import ui as ui
from . import weights as weights
from .editing.editor import Editor as Editor
from .editing.result import Result as Result
from .guidance.regions import Region as Region
from .jobs.batch import batch as batch
from .photos.photo import Photo as Photo

__version__: str
