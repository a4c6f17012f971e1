"""Where the stacks of a DICOM source are cut, which are volumes then."""

from pipelines.archives import locate
from pipelines.cuts import Axis, Cut
from pipelines.errors import Rejected
from pipelines.formats.dicom_series import Pictures, stacks
from pipelines.opened import open_file
from pipelines.storage import Root


def stacks_to_cut(pictures: Pictures) -> list[list[str]]:
    """The stacks of more than one file, as `pipelines.opened` finds them: each lies in one folder."""
    return [stack for stack in stacks(pictures, of_one_folder=True) if len(stack) > 1]


def cuts_of(root: Root, name: str, axis: Axis, *, of_frames: bool, everywhere: bool) -> list[Cut] | None:
    """The cuts of a stack.

    Args:
        root: Of the source.
        name: Its first file, or the one that has all of its frames.
        axis: Along which it is cut.
        of_frames: It has all of them.
        everywhere: Every cut of every volume; else the one in the middle of the first volume.

    Returns:
        None where nothing says that the frames of a file lie behind one another: they are pictures. A stack that cannot
        be cut has one cut, which the stage refuses when it opens it.
    """
    try:
        volume = open_file(root, *locate(root, name), Cut(axis=axis)).volume
        assert volume is not None, "what is opened for a cut is DICOM"
        count = volume.slices(axis)
    except Rejected as error:
        return None if of_frames and error.reason == "unplaced" else [Cut(axis=axis)]
    several = range(volume.volumes) if volume.volumes > 1 else [None]
    if not everywhere:
        return [Cut(frame=count // 2, axis=axis, volume=several[0])]
    return [Cut(frame=frame, axis=axis, volume=one) for one in several for frame in range(count)]
