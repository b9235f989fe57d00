"""`python -m lib.warp`: says where step one's commands are."""

import sys

DESCRIPTION = """\
Masks put on faces by rule. The commands, each with --help:
  python -m lib.augment IN OUT --rule-only     masks on every photograph of a folder
  python -m lib.warp.faces IN TABLE            faces and landmarks of a folder, and who was missed
  python -m lib.warp.own make | check | pack   mask templates of your own
  python -m lib.warp.bench                     how fast it is on one core"""

if __name__ == "__main__":
    print(DESCRIPTION)
    sys.exit(0 if {"-h", "--help"} & set(sys.argv[1:]) or not sys.argv[1:] else 2)
