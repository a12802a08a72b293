"""HDF5 files as bytes in memory, so that they can be verified, sealed and written whole."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats.sealed import HEADER_SIZE

if TYPE_CHECKING:
    import h5py

__all__ = ["hdf5_image", "open_image"]

HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
"""Exceptions that h5py raises for a damaged file."""


def hdf5_image(build: Callable[[h5py.File], None], user_block: int = HEADER_SIZE) -> bytes:
    """Make the bytes of a new HDF5 file, for `gmmcore.formats.sealed.seal`.

    Parameters
    ----------
    build
        Fills the file. Dataset creation times are not recorded by h5py's default,
        so that equal content gives equal bytes.

    Returns
    -------
    bytes
        The file without its user block.
    """
    import h5py

    with h5py.File(
        # HDF5 tells files in memory apart by their names.
        uuid.uuid4().hex,
        mode="w",
        driver="core",
        backing_store=False,
        userblock_size=user_block,
        libver=("earliest", "v108"),
    ) as file:
        build(file)
        file.flush()
        return file.id.get_file_image()


@contextlib.contextmanager
def open_image(path: PathLike, content: bytes, *, writable: bool = False) -> Iterator[h5py.File]:
    """Open the bytes of an HDF5 file; nothing touches the disk.

    Parameters
    ----------
    path
        Where the bytes came from, for messages only.
    content
        A whole HDF5 file, with or without its user block.
    writable
        Whether the copy in memory may be changed.

    Raises
    ------
    GmmcoreError
        If it is not an HDF5 file, or if the block that uses it meets something
        that is missing, damaged or of another type.
    """
    import h5py

    try:
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_fapl_core(backing_store=False)
        access.set_file_image(content)
        access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        flags = h5py.h5f.ACC_RDWR if writable else h5py.h5f.ACC_RDONLY
        with h5py.File(h5py.h5f.open(uuid.uuid4().hex.encode(), flags, fapl=access)) as file:
            yield file
    except HDF5_ERRORS as error:
        # The reasons that HDF5 gives may run over several lines.
        reason = " ".join(str(error).split())[:200].strip("'\"")
        raise GmmcoreError(
            f"{path}: not a readable HDF5 file of the expected kind: {reason}"
        ) from error
