"""Asks the system to drop what it holds in memory of the files below some directories, so that
whoever reads them next reads the disk. Files must be synced, which the lake's are."""

import os
import sys

for root in sys.argv[1:]:
    for folder, _, names in os.walk(root):
        for name in names:
            fd = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
