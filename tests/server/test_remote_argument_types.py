"""Over a server an argument of a wrong type is the same error."""

from __future__ import annotations

import test_argument_types
from adopted import adopt

adopt(
    globals(),
    test_argument_types,
    {},
    {
        "test_a_wrong_type_is_a_type_error_in_every_call": "its calls begin when they are awaited",
    },
)
