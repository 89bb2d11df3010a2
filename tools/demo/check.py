"""What the clients know against what the restored database has: `check.py LOG MICROSECONDS <ROWS`.

LOG holds every acknowledged commit with its time; standard input the rows of the restored ledger, `client number`.
Expected is exactly what was committed at or before the moment: nothing missing, nothing after. Prints
`EXPECTED MISSING TOO_MUCH LAST_COMMIT_BEFORE` and exits 1 when it is not so.
"""

import sys


def main():
    moment = int(sys.argv[2])
    times = {}
    for line in open(sys.argv[1]):
        fields = line.split()
        if len(fields) == 3:
            times[(int(fields[0]), int(fields[1]))] = int(fields[2])
    expected = {row for row, at in times.items() if at <= moment}
    restored = {tuple(map(int, line.split())) for line in sys.stdin if line.strip()}
    missing, extra = expected - restored, restored - expected
    last = max((times[row] for row in expected), default=0)
    print(len(expected), len(missing), len(extra), moment - last)
    sys.exit(1 if missing or extra or not expected else 0)


if __name__ == "__main__":
    main()
