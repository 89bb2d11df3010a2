"""check_layers.py names each kind of breach, and is quiet about code that keeps the layers."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_layers  # noqa: E402


class Layers(unittest.TestCase):
    def complaints(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            house = {
                "base/CMakeLists.txt": "kuramori_module(base)",
                "base/error.h": "#include <string>\n",
                "os/CMakeLists.txt": "kuramori_module(os USES base)",
                "os/file.h": '#include <sys/types.h>\n#include "base/error.h"\n',
                "store/CMakeLists.txt": "kuramori_module(store USES base os)",
                "store/store.h": '#include "os/file.h"\n',
                "store/local/CMakeLists.txt": "kuramori_module(store_local USES base os store)",
                "store/local/local.cc": '#include <openssl/evp.h>\n#include "store/store.h"\n',
                **files,
            }
            for name, text in house.items():
                path = root / "src" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return "\n".join(check_layers.check(root)[0])

    def test_code_that_keeps_them_is_fine(self):
        self.assertEqual(self.complaints({}), "")

    def test_an_include_upward(self):
        self.assertIn("does not declare", self.complaints({"os/run.cc": '#include "store/store.h"\n'}))

    def test_a_declared_use_upward(self):
        self.assertIn("a layer above", self.complaints({"os/CMakeLists.txt": "kuramori_module(os USES base store)"}))

    def test_an_undeclared_use_downward(self):
        complaints = self.complaints({"store/CMakeLists.txt": "kuramori_module(store USES base)"})
        self.assertIn('"os/file.h" belongs to os, which store does not declare', complaints)

    def test_a_circle(self):
        self.assertIn("a circle", self.complaints({
            "store/CMakeLists.txt": "kuramori_module(store USES base os store_local)"}))

    def test_a_library_in_a_header(self):
        self.assertIn("<zstd.h> in a header", self.complaints({"os/zip.h": "#include <zstd.h>\n"}))

    def test_a_file_that_is_not_there(self):
        self.assertIn("no file below src", self.complaints({"os/run.cc": '#include "file.h"\n'}))

    def test_a_test_may_use_what_its_module_stands_on(self):
        self.assertEqual("", self.complaints({"store/local/local_test.cc": '#include "os/file.h"\n'}))

    def test_two_types_of_one_name(self):
        def file(type, space="kuramori"):
            return f"namespace {space} {{\n{type} {{\n  struct Inner {{}};\n}};\n}}  // namespace {space}\n"

        self.assertIn("os/b.cc:2: kuramori::Seen is another type in src/os/a.cc",
                      self.complaints({"os/a.cc": file("struct Seen"), "os/b.cc": file("class Seen final : public Other")}))
        for other in (file("struct Seen", "kuramori::files"), file("class Looked"), file("struct Seen::Impl"),
                      file("struct Seen").replace("namespace kuramori", "namespace")):
            self.assertEqual("", self.complaints({"os/a.cc": file("struct Seen"), "os/b.cc": other}))

    def test_a_folder_of_no_row(self):
        self.assertIn("no row", self.complaints({"utils/CMakeLists.txt": "kuramori_module(utils USES base)"}))


if __name__ == "__main__":
    unittest.main()
