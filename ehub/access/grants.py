"""Grants: a role on the hub, on spaces, or on partitions of a space.

The resource of a grant is a text:

    hub                              everything
    space:<glob>                     all spaces whose names match, those still to come as well
    space:<name>/partition:<glob>    of one space the partitions that match

In a glob `*` is any characters, `?` one of them, `[ab]` one of these; all else is itself, upper and
lower case apart. What is before the first "/partition:" is the name of a space and no glob; a space
that has "/partition:" in its name is granted as `space:` with `[/]` in place of the slash.

There are grants only, and no rules that deny: what no grant gives is denied.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from ehub.access.roles import HUB_VERBS, PARTITION_ROLES, PARTITION_VERBS, ROLES, as_role
from ehub.errors import InvalidArgumentError
from ehub.names import as_text

__all__ = ["HUB", "RESOURCE_BYTES_MAX", "Grant", "Resource"]

RESOURCE_BYTES_MAX = 1_024
SPACE = "space:"
PARTITION = "/partition:"


class Resource(NamedTuple):
    """What a call is about.

    Args:
        space: The name of a space; None is the hub itself.
        partitions: Partitions of the space that the call stays within; None is the whole space.
    """

    space: str | None = None
    partitions: tuple[str, ...] | None = None


HUB = Resource()


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on a resource.

    Args:
        role: "reader", "writer", "editor" or "admin".
        on: The resource, as above.

    Raises:
        InvalidArgumentError: There is no such role or resource; or the role is more than writer and
            the resource a partition, to which only rows belong.
    """

    role: str
    on: str
    _space: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _partition: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        as_role(self.role)
        space, partition = parsed(self.on)
        if partition is not None and self.role not in PARTITION_ROLES:
            raise InvalidArgumentError(
                f"role {self.role} on {self.on!r:.100}: a partition has rows alone, so the roles "
                f"on one are {' and '.join(PARTITION_ROLES)}; grant {self.role} on the space"
            )
        object.__setattr__(self, "_space", space)
        object.__setattr__(self, "_partition", partition)

    @property
    def is_of_partitions(self) -> bool:
        """Whether it is on partitions, and so gives nothing of the space that is not a row."""
        return self._partition is not None

    @property
    def is_of_hub(self) -> bool:
        """Whether it is on everything."""
        return self._space is None

    def gives(self, verb: str) -> bool:
        """Whether it gives this verb on the resource it is on, or a part of that."""
        if self.is_of_partitions and verb not in PARTITION_VERBS:
            return False
        return verb in ROLES[self.role] and (self.is_of_hub or verb not in HUB_VERBS)

    def touches(self, space: str) -> bool:
        """Whether it is on this space, or on a part of it."""
        return self._space is None or self._space.match(space) is not None

    def has_partition(self, partition: str) -> bool:
        """Whether this partition, of a space that it touches, is in what it is on."""
        return self._partition is None or self._partition.match(partition) is not None

    def covers(self, resource: Resource) -> bool:
        """Whether all of a resource is in what it is on."""
        if resource.space is None:
            return self.is_of_hub
        if not self.touches(resource.space):
            return False
        if not self.is_of_partitions:
            return True
        parts = resource.partitions
        return bool(parts) and all(map(self.has_partition, parts or ()))

    def __str__(self) -> str:
        return f"{self.role} on {self.on}"

    @staticmethod
    def parse(text: object) -> Grant:
        """A grant from text like "reader on space:items"."""
        role, found, on = text.partition(" on ") if isinstance(text, str) else ("", "", "")
        if not found:
            raise InvalidArgumentError(
                f"a grant is {text!r:.100}; expected ROLE on RESOURCE, as reader on space:items"
            )
        return Grant(role, on)


def parsed(on: object) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Which spaces and which of their partitions a resource is; None is all of them."""
    text = as_text(on, "the resource of a grant")
    if text == "hub":
        return None, None
    rest = text.removeprefix(SPACE)
    space, slash, partition = rest.partition(PARTITION)
    if (
        rest == text
        or not space
        or (slash and not partition)
        or len(text.encode()) > RESOURCE_BYTES_MAX
    ):
        raise InvalidArgumentError(
            f"the resource of a grant is {text!r:.100}; expected hub, space:GLOB or "
            f"space:NAME/partition:GLOB, of at most {RESOURCE_BYTES_MAX} bytes"
        )
    if slash:
        return re.compile(re.escape(space) + r"\Z"), globbed(partition)
    return globbed(space), None


def globbed(glob: str) -> re.Pattern[str]:
    """A glob; what it cannot mean is refused rather than guessed."""
    try:
        return re.compile(fnmatch.translate(glob))
    except re.error as error:  # [z-a], on older releases of Python
        raise InvalidArgumentError(f"{glob!r:.100} is no glob: {error}") from None
