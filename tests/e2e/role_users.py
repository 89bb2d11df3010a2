"""Users of a real S3 store, one a key: each has the policy that `kuramori vault policy` prints, and a configuration with its
own access key and key file, as the machine it is for would have."""

import json

import harness


def owners_bucket_policy(owner, bucket):
    """As docs/keys.md has it: what others put into the bucket, its owner may read and remove."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{
        "Sid": "Owner", "Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam:::user/{owner}"]}, "Action": ["s3:*"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]})


class RoleUsers:
    """Of a case whose vault stands in a bucket (places.py) and is configured as `here`."""

    def __init__(self, case):
        self.case, self.users, self.keys, self.configs = case, {}, {}, {}

    def make(self, role, name=None):
        """A key, a user with its policy, and their configuration."""
        name = name or role
        self.keys[name] = self.case.folder / f"{name}.key"
        self.case.kuramori("vault", "key", "new", "here", "--role", role, "--name", name, "--to", self.keys[name])
        policy = self.case.kuramori("vault", "policy", "here", "--role", role, "--key", name, "--form", "ceph").out
        place = self.case.place
        user = self.users[name] = place.cluster.user(policy=policy, buckets=False)
        text = self.case.config.read_text().replace(str(self.case.key), str(self.keys[name]))
        for what, secret in (("access", user.access), ("secret", user.secret)):
            path = self.case.folder / f"{name}.{what}"
            path.write_text(secret + "\n")
            path.chmod(0o600)
            harness.give_to_server(path)
            text = text.replace(str(place.keys[what]), str(path))
        self.configs[name] = self.case.folder / f"{name}.yaml"
        self.configs[name].write_text(text)
        return user

    def run(self, name, *words, status=0, **options):
        """The program as on that machine."""
        return self.case.kuramori("--config", self.configs[name], *words, status=status, config=False, **options)

    def raw(self, name):
        """What a thief of its access key has in hand."""
        return self.users[name].s3
