#!/bin/bash
# End-to-end tests on a kernel that has what this machine's may lack: NFS, both ends of it, and device mapper.
#
#   tools/vm.sh [CASE…]   the cases of tests/vm/mounts_test.py whose names begin so; none: all
#
# A guest of Debian's own kernel and packages (group `guest` of tools/packages.txt), unpacked and never installed. QEMU emulates
# it even where there is a KVM: within a guest that cannot be relied on. Its three disks:
#
#   nvme0n1   Debian; what is written there is forgotten
#   nvme1n1   the program, the libraries it needs, the tests
#   nvme2n1   empty, for the tests
#
# NVMe since this kernel has that driver built in: no initial RAM disk is needed. The guest's kernel speaks to
# build/vm/kernel.log, its tests to us.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
source tools/house.sh
source tools/newer_suite.sh

CACHE=$(readlink -f "${KURAMORI_TEST_CACHE:-.cache}")/vm
RUN=$PWD/build/vm
PROGRAM=${KURAMORI_PROGRAMS:-build/release/bin}/kuramori
GUEST_MINUTES_MAX=45
DISK=4G

# Debian as a disk: made once for each list of packages.
make_system() {
  local packages new=$CACHE.new
  packages=$(packages_of guest)
  [ "$(cat "$CACHE/packages" 2>/dev/null)" != "$packages" ] || return 0
  say "unpacking Debian's packages for the guest"
  rm -rf "$CACHE" "$new"
  mkdir -p "$new/debian"
  # shellcheck disable=SC2086  # a list
  newer_suite_unpack bookworm "$new/debian" $packages
  mkdir -p "$new"/debian/{dev,proc,sys,run,tmp,mnt,srv,var/lib/nfs/{sm,sm.bak,v4recovery}}
  ln -s /run "$new/debian/var/run"
  printf '%s:/:/bin/sh\n' root:x:0:0: _rpc:x:100:65534: statd:x:101:65534: nobody:x:65534:65534: >"$new/debian/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$new/debian/etc/group"
  printf '127.0.0.1 localhost\n' >"$new/debian/etc/hosts"
  printf 'activation { udev_sync = 0 udev_rules = 0 }\ndevices { obtain_device_list_from_udev = 0 }\n' >"$new/debian/etc/lvm/lvmlocal.conf"
  /sbin/ldconfig -r "$new/debian" 2>/dev/null
  mv "$new"/debian/boot/vmlinuz-* "$new/vmlinuz"
  /sbin/depmod -b "$new/debian" "$(ls "$new/debian/lib/modules")"
  rm -rf "$new/debian/boot"
  /sbin/mke2fs -q -t ext4 -O ^has_journal -d "$new/debian" "$new/system" 1G >/dev/null
  rm -rf "$new/debian"
  echo "$packages" >"$new/packages"
  mv "$new" "$CACHE"
}

# What is tried: the program, its libraries and the tests.
make_cargo() {
  local cargo=$RUN/cargo
  rm -rf "$RUN"
  mkdir -p "$cargo/lib"
  cp "$PROGRAM" tests/vm/guest.sh tests/vm/mounts_test.py tests/e2e/tree_facts.py "$cargo"
  ldd "$PROGRAM" | awk '$2 == "=>" { print $3 }' | xargs cp -L -t "$cargo/lib"
  printf '%s\n' "$@" >"$cargo/cases"
  /sbin/mke2fs -q -t ext4 -O ^has_journal -d "$cargo" "$RUN/cargo.disk" 256M >/dev/null
  truncate -s $DISK "$RUN/empty.disk"
}

disk() { echo "-drive if=none,id=$1,format=raw,file=$2 -device nvme,serial=$1,drive=$1"; }

run_guest() {
  # shellcheck disable=SC2046  # words
  timeout --foreground "${GUEST_MINUTES_MAX}m" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
    -accel tcg,thread=multi -cpu max -smp 2 -m 2G -snapshot \
    $(disk system "$CACHE/system") $(disk cargo "$RUN/cargo.disk") $(disk empty "$RUN/empty.disk") \
    -serial file:"$RUN/kernel.log" -serial stdio -serial file:"$RUN/status" \
    -kernel "$CACHE/vmlinuz" -append "root=/dev/nvme0n1 rw console=ttyS0 quiet panic=-1 init=/bin/sh -- \
-c \"mount -t devtmpfs dev /dev; mount -r /dev/nvme1n1 /mnt; exec /mnt/guest.sh </dev/null >/dev/ttyS1 2>&1\"" </dev/null 2>"$RUN/qemu.log"
}

[ "$(uname -m)" = x86_64 ] || { say "the guest is of the same machine, and only x86_64 was made for it"; exit 1; }
make_system
make_cargo "$@"
run_guest || true  # it says how it went
if [ ! -s "$RUN/status" ]; then
  say "the guest ended before its tests did (or took longer than $GUEST_MINUTES_MAX minutes):"
  tail -n 20 "$RUN/qemu.log" "$RUN/kernel.log" >&2
  exit 1
fi
exit "$(tr -dc 0-9 <"$RUN/status")"
