"""Counts the results of one ctest run: `PASSED FAILED`.

A program of GoogleTest counts its cases (its own report, NAME.xml beside ctest.xml); any other test counts one.
A program that failed although its cases passed (a leak found at exit, a crash after the last) counts as one failure.
"""

import pathlib
import sys
import xml.etree.ElementTree as xml


def cases_of(report):
    """(passed, failed) of a GoogleTest report; None when there is none."""
    try:
        root = xml.parse(report).getroot()
    except (OSError, xml.ParseError):
        return None
    passed = failed = 0
    for case in root.iter("testcase"):
        if case.get("status") == "notrun" or case.get("result") in ("skipped", "suppressed"):
            continue
        if case.find("failure") is not None:
            failed += 1
        else:
            passed += 1
    return passed, failed


def main(folder):
    passed = failed = 0
    for test in xml.parse(folder / "ctest.xml").getroot().iter("testcase"):
        status = test.get("status")
        if status in ("disabled", "notrun") and test.find("failure") is None:
            if status == "notrun":
                failed += 1  # its program was not built
            continue
        cases = cases_of(folder / (test.get("name") + ".xml"))
        if cases is None:
            cases = (1, 0) if status == "run" else (0, 1)
        elif status == "fail" and cases[1] == 0:
            cases = (cases[0], 1)
        passed += cases[0]
        failed += cases[1]
    print(passed, failed)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
