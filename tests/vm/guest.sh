#!/bin/bash
# The first process of the guest (tools/vm.sh): a system that is just enough for NFS and LVM, then the tests.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir -p /run/lock /run/rpcbind /dev/shm
mount -t tmpfs shm /dev/shm
ip link set lo up
modprobe -a nfsd nfsv3 nfsv4 dm-mod dm-snapshot
mount -t nfsd nfsd /proc/fs/nfsd

# After a restart, a server of NFS 4 lets nobody in for this long; the least that the kernel takes.
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
rpcbind
rpc.statd
rpc.mountd

mapfile -t cases </mnt/cases
/usr/bin/python3 /mnt/mounts_test.py "${cases[@]}"
echo $? >/dev/ttyS2
echo o >/proc/sysrq-trigger
sleep 60
