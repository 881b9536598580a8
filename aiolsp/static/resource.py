"""From a request target to what is on the disk: the blocking half of an answer, for a pool's thread.

``load`` finds and opens, and reads what is small; it takes what an earlier ``load`` gave for the same key, and gives
that back if nothing has changed. ``load_cached`` does the same as far as the kernel has all of it in memory, without
waiting, so that it may be called on the loop's thread. ``load_again`` is the short way for a file that is where it was
and as it was, and ``still_has`` for one whose bytes are at hand: one look tells. ``answer.respond`` is the other half:
without I/O.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from aiolsp.http1.conditions import Validators
from aiolsp.http1.media_types import media_type
from aiolsp.http1.negotiation import SIBLINGS, accepts_html
from aiolsp.http1.response import Field, error_page
from aiolsp.http1.target import directory_location
from aiolsp.linux import cached
from aiolsp.linux.beneath import Opened, open_beneath, walk
from aiolsp.linux.cached import NotCached
from aiolsp.linux.directories import Directories
from aiolsp.linux.named_directory import NamedDirectory
from aiolsp.static import listing
from aiolsp.static.policy import Policy, common_fields
from aiolsp.static.representation import HTML, Identity, Outline, Resource, Wanted
from aiolsp.static.siblings import best_variant

if TYPE_CHECKING:
    from aiolsp.static.scripts import Scripts

_SUFFIXES = tuple(SIBLINGS.values())

WELL_KNOWN = b".well-known"
"""The one dot name that is meant to be asked for (RFC 8615)."""

_TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DocumentRoot:
    """The directory that is served, by its descriptor: all names are looked up beneath that.

    What is one of the *scripts* is never served as a file: its source is nobody's business. Raises OSError if *path* is
    not a directory that can be opened. Looks at the directory of a file, for siblings, and at *path*, for another root,
    count until somebody calls ``forget``, each second for one; or not, if it is to *look_always*. With *scripts*, which
    belong to the root, it stays the one that it was.
    """

    _look_up = staticmethod(walk)

    def __init__(
        self,
        path: str,
        policy: Policy,
        *,
        small: int = 0,
        scripts: Scripts | None = None,
        look_always: bool = False,
    ) -> None:
        self.policy = policy
        self.small = small
        self.scripts = scripts
        self._named = NamedDirectory(path)
        self._fd = self._named.fd
        self._look_always = look_always
        self._directories = None if look_always or policy.follow_symlinks else Directories(self._fd)
        self._probed = False
        self._cached: _CachedRoot | None = None
        self.common = common_fields(policy)
        self._of_kinds: dict[tuple[bytes, bytes, bool], tuple[Field, ...]] = {}

    def close(self) -> None:
        """Close the directory."""
        self._named.close()

    def load(self, wanted: Wanted, known: Resource | None = None) -> Resource:
        """What to send for *wanted*: *known* itself if that is still so. Blocks on the disk; never raises OSError."""
        if self._look_always:
            self.forget()
        if self._named.follow():
            self.forget()
            self._probed, self._cached = False, None
        return self._load(wanted, known)

    def load_cached(self, wanted: Wanted, known: Resource | None = None) -> Resource | None:
        """As `load`, but never waits: None if that takes a look at the disk, or if it is not known to be needless."""
        try:
            return self._at_once()._load(wanted, known)
        except NotCached:
            return None

    def load_again(self, outline: Outline) -> Resource | None:
        """The file of *outline*, read or opened, if it is still what `load_cached` would find; else None."""
        try:
            return self._at_once().read_again(outline) if outline.path else None
        except NotCached:
            return None

    def still_has(self, outline: Outline) -> bool:
        """Whether the file of *outline*, whose bytes are at hand, is certainly still what `load_cached` would find."""
        try:
            return bool(outline.path) and self._at_once().finds(outline)
        except NotCached:
            return False

    def forget(self) -> None:
        """Looks at directories from before count no longer, nor one at where the root stands."""
        if self.scripts is None:
            self._named.doubt()
        if self._directories is not None:
            self._directories.forget()

    def error(self, status: int, detail: str = "", *extra: Field) -> Resource:
        """A page that names *status*."""
        return self._page(status, error_page(status, detail), *extra)

    def _load(self, wanted: Wanted, known: Resource | None) -> Resource:
        try:
            return self._find(wanted, known)
        except FileNotFoundError:
            page = self._missing(wanted)
            # An application's page takes the place of this one if Accept says so.
            page.repeatable = not self.policy.spa
            return page
        except PermissionError:
            return self.error(403)
        except OSError as error:
            return self.error(503 if error.errno in _TOO_MANY_FILES else 500)

    def _find(self, wanted: Wanted, known: Resource | None) -> Resource:
        target = wanted.target
        if not self._served(target.segments):
            raise FileNotFoundError
        opened = self._open(target.segments, known)
        if not opened.is_directory:
            if target.is_directory:
                opened.close()
                raise FileNotFoundError
            return self._file(target.segments, opened, wanted, known)
        try:
            if not target.is_directory:
                moved = self.error(308, "", (b"Location", directory_location(target)))
                moved.repeatable = True
                return moved
            return self._directory(opened.fd, wanted, known)
        finally:
            opened.close()

    def _served(self, segments: tuple[bytes, ...]) -> bool:
        """Whether names as these are served at all."""
        if self.scripts is not None and segments and segments[0] in self.scripts.names:
            return False
        if self.policy.dotfiles:
            return True
        visible = segments[1:] if segments[:1] == (WELL_KNOWN,) else segments
        return (b"/" + b"/".join(visible)).find(b"/.") < 0

    def _directory(self, fd: int, wanted: Wanted, known: Resource | None) -> Resource:
        segments = wanted.target.segments
        try:
            index = (*segments, self.policy.index_page)
            return self._regular(index, wanted, known)
        except FileNotFoundError:
            if not self.policy.listing:
                raise
        items, more = self._list(fd)
        if self.scripts is not None:
            items = [item for item in items if self._served((*segments, item.name))]
        return self._page(200, listing.page(segments, items, more=more))

    def _regular(self, segments: Sequence[bytes], wanted: Wanted, known: Resource | None) -> Resource:
        opened = self._open(segments, known)
        if opened.is_directory:
            opened.close()
            raise FileNotFoundError
        return self._file(segments, opened, wanted, known)

    def _file(self, segments: Sequence[bytes], opened: Opened, wanted: Wanted, known: Resource | None) -> Resource:
        """The file *opened*, or its better sibling; takes over the descriptor."""
        self._probe(opened)
        name = segments[-1]
        varies = not name.endswith(_SUFFIXES)
        coding = b""
        rivals: tuple[bytes, ...] | None = ()
        if varies and wanted.accept_encoding is not None:
            opened, coding, rivals = best_variant(self._sibling, segments, opened, wanted.accept_encoding, known)
        identity = Identity.of(opened.status, coding)
        if known is not None and known.outline.identity == identity:
            opened.close()
            return known
        content_type = media_type(name)
        common = self._fields_of_kind(content_type, coding, varies)
        validators = Validators.of_file(identity.size, identity.mtime_ns, identity.inode, coding)
        outline = Outline(200, common, identity.size, identity, validators, content_type)
        if rivals is not None and self.scripts is None:
            outline.path, outline.rivals = b"/".join(segments), rivals
        resource = Resource(outline, None, opened.fd)
        if identity.size <= self.small:
            try:
                self._read(resource)
            except (OSError, NotCached):
                resource.close()
                raise
        return resource

    def _fields_of_kind(self, content_type: bytes, coding: bytes, varies: bool) -> tuple[Field, ...]:
        """What is said of all files of a kind, of which there are as many as media types and codings."""
        kind = (content_type, coding, varies)
        fields = self._of_kinds.get(kind)
        if fields is None:
            fields = (*self.common, (b"Content-Type", content_type), (b"Accept-Ranges", b"bytes"))
            if self.policy.cache_control is not None:
                fields += ((b"Cache-Control", self.policy.cache_control),)
            if varies:
                fields += ((b"Vary", b"Accept-Encoding"),)
            if coding:
                fields += ((b"Content-Encoding", coding),)
            self._of_kinds[kind] = fields
        return fields

    def _missing(self, wanted: Wanted) -> Resource:
        """A page of the directory's own for what is not there, or ours."""
        plain = Wanted(wanted.target)
        told = ((b"Vary", b"Accept"),) if self.policy.spa else ()
        if self.policy.spa and accepts_html(wanted.accept):
            with contextlib.suppress(OSError):
                page = self._regular((self.policy.index_page,), plain, None)
                # It stands in for this path only in answer to this Accept, which no key of our cache holds.
                page.keepable, page.outline.path = False, b""
                page.outline.common = (*self._fields_of_kind(page.outline.content_type, b"", varies=False), *told)
                return page
        try:
            page = self._regular((self.policy.not_found_page,), plain, None)
            try:
                if page.body is None:
                    self._read(page)
            finally:
                page.close()
        except OSError:
            return self.error(404, "", *told)
        return self.error(404, "", *told) if page.body is None else self._page(404, page.body, *told)

    # What looks at the disk

    def _open(self, segments: Sequence[bytes], known: Resource | None = None, coding: bytes = b"") -> Opened:
        """What *segments* name, to be served in *coding*; not opened if it is what is *known*, and was then."""
        identity = known.outline.identity if known else None
        opened = open_beneath(
            self._fd,
            segments,
            follow_symlinks=self.policy.follow_symlinks,
            look_up=self._look_up,
            unless=identity.is_of if identity and identity.coding == coding else None,
        )
        if self.scripts is not None and opened.fd >= 0 and self.scripts.hold(opened.fd):
            opened.close()
            raise FileNotFoundError
        return opened

    def _sibling(self, segments: Sequence[bytes], known: Resource | None, coding: bytes) -> Opened | None:
        """As `_open`; None if there is nothing to serve."""
        try:
            return self._open(segments, known, coding)
        except OSError:
            return None

    def _read(self, resource: Resource) -> None:
        """Read the open file whole; one that changes meanwhile stays as it is, open and unread."""
        identity = resource.outline.identity
        assert identity is not None
        body = self._content(resource.fd, identity.size)
        status = os.fstat(resource.fd)
        if len(body) == status.st_size == identity.size and status.st_mtime_ns == identity.mtime_ns:
            resource.body = body
            resource.keepable = True
            resource.close()

    def _content(self, fd: int, size: int) -> bytes:
        return os.pread(fd, size, 0)

    def _list(self, fd: int) -> tuple[list[listing.Item], bool]:
        return listing.read_directory(fd, self.policy)

    def _at_once(self) -> _CachedRoot:
        """Who answers without waiting. Raises NotCached if nobody can, or if what the root is by now is not known."""
        at_once = self._cached
        if self._look_always:
            self.forget()
        if at_once is None or not self._named.settled():
            raise NotCached
        return at_once

    def _probe(self, opened: Opened) -> None:
        """Find out, by the first file, whether the file system of the root can be asked without waiting."""
        if not self._probed and opened.status.st_dev == self._named.device:
            self._probed = True
            if cached.knows_nowait(opened.fd):
                self._cached = _CachedRoot(self)

    def _page(self, status: int, body: bytes, *extra: Field) -> Resource:
        return Resource(Outline(status, (*self.common, (b"Content-Type", HTML), *extra), len(body)), body)


class _CachedRoot(DocumentRoot):
    """The same directory, as far as the kernel has it in memory: raises NotCached rather than wait."""

    _look_up = staticmethod(cached.look_up)

    def __init__(self, root: DocumentRoot) -> None:
        vars(self).update(vars(root))

    def read_again(self, outline: Outline) -> Resource | None:
        """As `load_again`. What was read or opened is looked at last: so all of it is of the file that is known."""
        identity = outline.identity
        assert identity is not None
        if outline.rivals and not self._is_alone(outline):
            return None
        fd = cached.reopen(self._fd, outline.path, self.policy.follow_symlinks)
        try:
            body = cached.read(fd, outline.size, 0) if outline.size <= self.small else None
            if not identity.is_of(os.fstat(fd)):
                return None
            if body is not None:
                found = Resource(outline, body)
                found.keepable = True
                return found
            fd, kept = -1, fd
            return Resource(outline, None, kept)
        finally:
            if fd >= 0:
                os.close(fd)

    def finds(self, outline: Outline) -> bool:
        """As `still_has`."""
        identity = outline.identity
        assert identity is not None
        if outline.rivals and not self._is_alone(outline):
            return False
        return identity.is_of(cached.status(self._fd, outline.path, self.policy.follow_symlinks))

    def _is_alone(self, outline: Outline) -> bool:
        """Whether none of its rivals is there."""
        state = None if self._directories is None else self._directories.state(outline.path.rpartition(b"/")[0])
        if state is None or state != outline.alone_in:
            for suffix in outline.rivals:
                if not cached.is_missing(self._fd, outline.path + suffix, self.policy.follow_symlinks):
                    return False
            outline.alone_in = state
        return True

    def _sibling(self, segments: Sequence[bytes], known: Resource | None, coding: bytes) -> Opened | None:
        # Most files have none: to learn that from an exception takes ten times as long.
        if cached.is_missing(self._fd, b"/".join(segments), self.policy.follow_symlinks):
            return None
        return super()._sibling(segments, known, coding)

    def _content(self, fd: int, size: int) -> bytes:
        return cached.read(fd, size, 0)

    def _list(self, fd: int) -> NoReturn:
        raise NotCached
