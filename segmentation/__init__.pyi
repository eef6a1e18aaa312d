from . import masks as masks
from .pointing import pick as pick
from .pointing import segment as segment
from .protocol import Encoded as Encoded
from .protocol import Masks as Masks
from .protocol import Prompts as Prompts
from .protocol import Segmenter as Segmenter
