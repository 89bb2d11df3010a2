"""Faults of a real S3 store, at every point of a run and at every store call."""

import harness
import s3_faults_test

globals().update({name: case for name, case in vars(s3_faults_test).items() if isinstance(case, type)})

if __name__ == "__main__":
    harness.main()
