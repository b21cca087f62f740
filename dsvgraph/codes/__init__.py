"""The code of every mistake that a spec can have. Codes are stable: none is ever given to another mistake.

The first two digits are the area, a file of this folder each, which explains its codes.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """`E..` is an error, `W..` a warning."""

    # text
    NOT_YAML = "E0101"
    TAG = "E0102"
    GIVEN_TWICE = "E0103"
    NO_ANCHOR = "E0104"
    BAD_MERGE = "E0105"
    BAD_KEY = "E0106"
    SECOND_DOCUMENT = "E0107"
    TEXT_LIMIT = "E0108"
    NOT_TEXT = "E0109"

    # keys
    UNKNOWN_KEY = "E0201"
    MISSING_KEY = "E0202"
    WRONG_KIND = "E0203"
    NO_NAME = "E0204"
    EMPTY_LINE = "E0205"
    BAD_PATH = "E0206"
    NO_TYPE = "E0207"
    BAD_INIT = "E0208"
    PUBLISHED = "E0209"
    NO_GRAPH = "E0210"
    CONTRADICTED = "E0211"

    # names
    NO_NODE = "E0301"
    NO_PORT = "E0302"
    NO_VALUE = "E0303"
    NO_CALLEE = "E0304"
    NO_ATTRIBUTE = "E0305"
    MISSING_ATTRIBUTE = "E0306"
    NO_INPUT = "E0307"
    NOT_WIRED = "E0308"
    BAD_REFERENCE = "E0309"
    NO_BLOCK = "E0310"
    TAKEN = "E0311"
    CALL_CIRCLE = "E0312"
    CONFIG_CIRCLE = "E0313"
    NO_SETTING = "E0314"

    # sizes
    BAD_SIZE = "E0401"
    BAD_VALUE = "E0402"
    DIFFERENT = "E0403"
    MISFIT = "E0404"
    TIED_MISFIT = "E0405"
    AXES = "E0406"
    NUMBER_KIND = "E0407"
    INDIVISIBLE = "E0408"
    EQUATION = "E0409"
    TOO_LATE = "E0410"
    POSITIONS = "E0411"
    ROOT_AXES = "E0412"
    ROW_ORDER = "E0413"
    CACHE = "E0414"
    CACHE_CUT = "E0415"

    # arithmetic
    NO_ARITHMETIC = "E0501"
    NO_RESULT = "E0502"
    NUMBER_LIMIT = "E0503"
    NO_FUNCTION = "E0504"
    NO_MEMBER = "E0505"

    # copies
    COPY_KEYS = "E0601"
    NO_PIECE = "E0602"
    NOT_CARRIED = "E0603"
    TIED_COPIES = "E0604"
    COPY_COUNT = "E0605"
    CYCLE = "E0606"
    COPY_ADDRESS = "E0607"

    # losses
    LABEL_LEAK = "E0701"
    LOSS_FORM = "E0702"
    LOSS_NAMES = "E0703"
    LOSS_SHAPE = "E0704"
    LOSS_NUMBER = "E0705"
    NO_ROUTER = "E0706"

    # weights
    SAME_PATH = "E0801"
    TORCH_NAME = "E0802"
    NOT_LOWERED = "E0803"
    SHARED_ADDRESS = "E0804"

    # files and limits
    NO_FILE = "E0901"
    NOT_A_FILE = "E0902"
    OUTSIDE = "E0903"
    INCLUDE_CIRCLE = "E0904"
    NOT_A_LIBRARY = "E0905"
    TWO_BLOCKS = "E0906"
    TOO_MUCH = "E0907"

    # warnings
    UNUSED_VALUE = "W0101"
    UNUSED_NODE = "W0102"
    UNUSED_INPUT = "W0103"
    UNUSED_BLOCK = "W0104"
    UNUSED_PATTERN = "W0105"
    UNUSED_OUTPUT = "W0106"
    UNUSED_CACHE = "W0107"
    UNTRAINED = "W0201"
    ZERO_WEIGHT = "W0202"
    DEEP = "W0203"
    GAP = "W0204"
    ALIGNMENT = "W0301"
