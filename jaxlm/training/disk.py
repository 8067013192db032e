"""A full disk, however it is told."""

import errno


def is_disk_full(error: BaseException | None) -> bool:
  """Whether an error, or what it came from, says that the disk is full."""
  while error is not None:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
      return True
    if "No space left on device" in str(error):
      return True
    error = error.__cause__ or error.__context__
  return False
