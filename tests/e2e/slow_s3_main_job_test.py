"""The whole main-job suite on every kind of S3 place."""

import harness
import s3_main_job_test

globals().update(s3_main_job_test.classes(long=True))

if __name__ == "__main__":
    harness.main()
