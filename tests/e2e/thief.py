"""What a thief can make of a stolen key bundle: records that are sealed and signed as well as that bundle can. Written from
docs/vault-format.md; shares no code with the program."""

import base64
import os
import pathlib
import struct
import sys

import nacl.bindings
import nacl.signing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "format"))
import reader  # noqa: E402

SEALED, SIGNED = 1, 2
GRANT, COMMIT, FENCE, PLAN, SWEEP, PRUNE_INTENT, PRUNE_FINAL, PROOF, CATALOG = 2, 5, 6, 7, 8, 9, 10, 14, 21


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def message(fields):
    """{number: value or list of values} as protobuf; numbers as varints, bytes with their length."""
    out = b""
    for number, values in sorted(fields.items()):
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += varint(number << 3) + varint(value)
            else:
                out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


class Thief:
    def __init__(self, key_file):
        text = pathlib.Path(key_file).read_text()
        bundle = reader.Message(base64.b64decode(text[text.index("body:\n") + 6:text.rindex("check: ")]))
        self.family, self.structure = bundle.b(2), bundle.b(6)
        self.reader_public, self.reader_secret = bundle.b(4), bundle.b(5)
        self.signing = nacl.signing.SigningKey(bundle.b(8))
        self.id = reader.sha256(bytes(self.signing.verify_key))[:16]
        self.owner = bundle.b(9)

    @property
    def prefix(self):
        """How its session ids begin."""
        return self.id.hex()[:8]

    def structure_key(self, scope):
        return reader.Keys.derive(self, b"kuramori structure 1", scope)

    def session(self):
        return self.id[:4] + os.urandom(12)

    def open(self, name, data):
        """The body of a record, by the structure key that every role holds."""
        envelope = reader.Envelope(name, data)
        plain = reader.unseal(self.structure_key(envelope.scope), b"kuramori record 1" + self.family + envelope.head, envelope.body)
        return envelope, reader.unzstd(plain, 1 << 28) if envelope.flags & 4 else plain

    def record(self, kind, name, body, scope=b"", signed=True, signer=None):
        """A record whose seal and check are right; its signature is the thief's own, or there is none, or it names another."""
        head = b"KMRI" + bytes([kind, 1]) + struct.pack("<HH", SEALED | (SIGNED if signed else 0), len(name)) + name.encode()
        head += bytes([len(scope)]) + scope
        nonce = os.urandom(24)
        sealed = nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            body, b"kuramori record 1" + self.family + head, nonce, self.structure_key(scope))
        data = head + struct.pack("<I", len(sealed)) + sealed
        if signed:
            data += (signer or self.id) + self.signing.sign(b"kuramori signature 1" + self.family + data).signature
        return data + reader.sha256(data)

    def opens_packs(self, pack):
        """Whether anything in the bundle opens a pack's key."""
        head = reader.Envelope(self.name_of(pack), pack[:4096], whole=False)
        secrets = [self.reader_secret, self.structure, bytes(self.signing)]
        for secret in secrets:
            if len(secret) != 32:
                continue
            try:
                public = nacl.bindings.crypto_scalarmult_base(secret)
                nacl.bindings.crypto_box_seal_open(head.body[32:], public, secret)
                return True
            except Exception:  # noqa: BLE001 - any failure is what is hoped for
                continue
        return False

    @staticmethod
    def name_of(data):
        """The name inside an object."""
        size = struct.unpack_from("<H", data, 8)[0]
        return data[10:10 + size].decode()
