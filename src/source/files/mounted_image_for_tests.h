// A filesystem of any kind for one test.
#pragma once
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <string>

#include "os/process.h"
#include "source/files/captured_for_tests.h"

namespace kuramori::files {

// A filesystem of its own, in a file, mounted as long as this lives.
class MountedImage {
 public:
  // `options` as of mount(8).
  explicit MountedImage(const std::string& kind, const std::string& options = "loop") {
    ground_.folder("mounted");
    if (kind == "tmpfs") {
      mounted_ = ::mount("none", path().c_str(), "tmpfs", 0, "size=256m") == 0;
      return;
    }
    constexpr off_t kImageBytes = off_t{400} << 20;  // xfs wants 300 MiB; hardly any of it is written
    Fd image = *open_file(ground_ / "image", O_RDWR | O_CREAT);
    if (::ftruncate(image.get(), kImageBytes) != 0) return;
    Result<std::string> made = run_checked({.argv = {"mkfs." + kind, "-q", ground_ / "image"}});
    if (!made) return;
    mounted_ =
        run_checked({.argv = {"mount", "-o", options, "-t", kind, ground_ / "image", path()}}).has_value();
  }
  ~MountedImage() {
    if (!mounted_) return;
    EXPECT_TRUE(run_checked({.argv = {"umount", path()}}));
  }
  MountedImage(const MountedImage&) = delete;
  MountedImage& operator=(const MountedImage&) = delete;
  bool mounted() const { return mounted_; }
  std::string path() const { return ground_ / "mounted"; }

 private:
  Ground ground_;
  bool mounted_ = false;
};

}  // namespace kuramori::files
