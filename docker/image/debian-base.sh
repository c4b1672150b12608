#!/bin/sh
# Builds a bootable SD image from Debian's arm64 packages: debian-base.sh OUT.img
#
# It holds no user, no password and no host key: `headgate image --base OUT.img` adds what is personal,
# without root. In the image container: `docker run ... headgate-image debian-base OUT.img`.
# No loop devices and no mounts; equal packages and SOURCE_DATE_EPOCH give equal bytes.
#
# Needs root of a container or machine, a kernel that starts arm64 programs through QEMU (binfmt_misc),
# and the Debian packages: cpio dosfstools e2fsprogs fdisk kmod mmdebstrap mtools qemu-user-static.
set -eu

: "${SUITE:=bookworm}"
# A URL, or a file with sources as apt's; a dated snapshot pins every version. Debian's own, with its updates and
# security updates, if there is none.
: "${MIRROR:=}"
: "${SOURCE_DATE_EPOCH:=1767225600}"
export SOURCE_DATE_EPOCH E2FSPROGS_FAKE_TIME="$SOURCE_DATE_EPOCH" LC_ALL=C
umask 022

# Start and length of the partitions in sectors of 512 bytes. The whole is 2 GiB: QEMU wants a power of two.
BOOT_START=8192 BOOT_SECTORS=524288
ROOT_START=532480 ROOT_SECTORS=3661824
ROOT_UUID=6865616d-6761-4765-8000-726f6f740001

# cloud-init is not among them: systemd runs the first boot's script, and nothing else is needed.
PACKAGES=dbus,fdisk,iproute2,kmod,netbase,openssh-server,python3,sudo,systemd,systemd-resolved
PACKAGES=$PACKAGES,systemd-sysv,systemd-timesyncd,udev,wireless-regdb,wpasupplicant,firmware-brcm80211
# Unpacked, not installed: in an emulated chroot their scripts would take a quarter of an hour.
UNPACKED='linux-image-arm64 raspi-firmware busybox-static'
# What reaches the root file system on an SD card (Pi 3, 4, Zero 2 W) or a virtual disk.
MODULES='gpio-regulator fixed clk-raspberrypi reset-raspberrypi dma-bcm2835 i2c-bcm2835 crc16 ext4
  mmc_block sdhci-iproc bcm2835 bcm2835-sdhost bcm2835_wdt virtio_mmio virtio_pci virtio_blk'

fail() { echo "debian-base.sh: $*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: debian-base.sh OUT.img"
OUT=$1
for tool in cpio depmod mkfs.ext4 mkfs.vfat mcopy mmdebstrap sfdisk; do
  command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
    fail "$tool is not installed; the packages that are needed are listed at the top of this script"
done
PATH=$PATH:/usr/sbin:/sbin
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || arch-test arm64 >/dev/null 2>&1 ||
  fail "this kernel does not start arm64 programs: install qemu-user-static on the machine itself"

W=$(mktemp -d "${TMPDIR:-/tmp}/debian-base.XXXXXX")
trap 'rm -rf "$W" "$OUT.partial"' EXIT
trap 'exit 130' INT TERM
mkdir "$W/root" "$W/extra" "$W/boot" "$W/initrd"

say() { echo "debian-base.sh: $*" >&2; }

# In the hook apt runs outside the chroot, with the chroot's sources and architecture.
cat > "$W/unpack" <<HOOK
#!/bin/sh
set -eu
cd "$W/extra"
image=\$(apt-cache depends linux-image-arm64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)\$/\1/p')
apt-get -qq -o APT::Sandbox::User=root download \$(echo $UNPACKED | sed "s/linux-image-arm64/\$image/")
HOOK
chmod +x "$W/unpack"

say "installing Debian $SUITE for arm64"
mmdebstrap --quiet --mode="${MMDEBSTRAP_MODE:-auto}" --architectures=arm64 --variant=minbase \
  --components="main non-free-firmware" --include="$PACKAGES" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --aptopt='Apt::Install-Recommends "false"' \
  --customize-hook="APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG $W/unpack" \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf "$1"/etc/hostname' \
  --customize-hook='ln -s ../run/systemd/resolve/stub-resolv.conf "$1"/etc/resolv.conf' \
  --customize-hook='ln -sf ../proc/self/mounts "$1"/etc/mtab' \
  --customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd ssh' \
  "$SUITE" "$W/root.tar" ${MIRROR:+"$MIRROR"}
tar -C "$W/root" --numeric-owner -xpf "$W/root.tar"
rm "$W/root.tar"

for package in "$W"/extra/*.deb; do
  dpkg-deb -x "$package" "$W/extra"
done
VERSION=$(basename "$W"/extra/boot/vmlinuz-* | sed 's/^vmlinuz-//')
say "Linux $VERSION"
mkdir -p "$W/root/boot/firmware" "$W/root/usr/lib/modules"
# Reading a compressed module needs no more than the kernel; documentation and debug data stay behind.
cp -a "$W/extra/lib/modules/$VERSION" "$W/root/usr/lib/modules/"
depmod -b "$W/root" "$VERSION"

# Not nofail for the boot partition: the first boot's script is there, and nothing would wait for it.
cat > "$W/root/etc/fstab" <<'END'
LABEL=hg-root / ext4 defaults,noatime,x-systemd.growfs 0 1
LABEL=HG-BOOT /boot/firmware vfat defaults 0 2
END
cat > "$W/root/etc/systemd/network/20-any.network" <<'END'
[Match]
Name=e* wl*
[Network]
DHCP=yes
MulticastDNS=yes
[Link]
RequiredForOnline=no
END
cat > "$W/root/usr/local/sbin/grow-root-partition" <<'END'
#!/bin/sh
# The root partition takes what the card has left; its file system follows (x-systemd.growfs).
set -eu
partition=$(basename "$(findmnt -nvo SOURCE /)")
disk=$(basename "$(readlink -f "/sys/class/block/$partition/..")")
cd /sys/class/block
read -r number < "$partition/partition"
read -r start < "$partition/start"
read -r size < "$partition/size"
read -r sectors < "$disk/size"
[ $((sectors - start - size)) -ge 2048 ] || exit 0
echo ', +' | sfdisk --quiet --force --no-reread --no-tell-kernel -N "$number" "/dev/$disk"
partx --update --nr "$number" "/dev/$disk"
END
chmod 755 "$W/root/usr/local/sbin/grow-root-partition"
cat > "$W/root/etc/systemd/system/grow-root-partition.service" <<'END'
[Unit]
Description=The root partition takes the rest of the card
DefaultDependencies=no
After=systemd-remount-fs.service
Before=systemd-growfs-root.service local-fs.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/grow-root-partition
[Install]
WantedBy=local-fs.target
END
mkdir -p "$W/root/etc/systemd/system/local-fs.target.wants"
ln -s ../grow-root-partition.service "$W/root/etc/systemd/system/local-fs.target.wants/"
# An empty one is filled on first boot.
: > "$W/root/etc/machine-id"
echo debian > "$W/root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost\n' > "$W/root/etc/hosts"
chroot "$W/root" dpkg-query -W -f '${Package} ${Version}\n' > "$W/boot/packages.txt"
for package in "$W"/extra/*.deb; do
  dpkg-deb -f "$package" Package Version | sed 's/^[^:]*: //' | paste -sd ' '
done >> "$W/boot/packages.txt"

say "initial RAM disk"
mkdir -p "$W/initrd/bin" "$W/initrd/dev" "$W/initrd/proc" "$W/initrd/sys" "$W/initrd/mnt" "$W/initrd/modules"
cp "$W/extra/bin/busybox" "$W/initrd/bin/" 2>/dev/null || cp "$W/extra/usr/bin/busybox" "$W/initrd/bin/"
for applet in sh mount insmod switch_root sleep findfs cat; do ln -s busybox "$W/initrd/bin/$applet"; done
for module in $MODULES; do
  # A module that is built in, or that this version does not have, has no file.
  modprobe -d "$W/root" -S "$VERSION" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r file; do
  cp "$file" "$W/initrd/modules/"
  echo "/modules/${file##*/}" >> "$W/initrd/order"
done
cat > "$W/initrd/init" <<'END'
#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
while read module; do insmod $module 2>/dev/null; done < /order
tries=0
until root=$(findfs LABEL=hg-root 2>/dev/null); do
  tries=$((tries + 1)); [ $tries -lt 300 ] || { echo "no root file system"; exec sh; }
  sleep 0.1
done
mount -t ext4 -o rw "$root" /mnt || exec sh
for folder in dev proc sys; do mount --move /$folder /mnt/$folder; done
exec switch_root /mnt /sbin/init
END
chmod +x "$W/initrd/init"
find "$W/initrd" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
(cd "$W/initrd" && find . | sort | cpio -o -H newc -R 0:0 --reproducible --quiet | gzip -9n) > "$W/boot/initrd.img"

cp "$W/extra/boot/vmlinuz-$VERSION" "$W/boot/vmlinuz"
cp "$W"/extra/usr/lib/linux-image-"$VERSION"/broadcom/bcm2*rpi*.dtb "$W/boot/"
for firmware in bootcode.bin start.elf start4.elf fixup.dat fixup4.dat; do
  cp "$W/extra/usr/lib/raspi-firmware/$firmware" "$W/boot/"
done
cat > "$W/boot/config.txt" <<'END'
arm_64bit=1
kernel=vmlinuz
initramfs initrd.img followkernel
enable_uart=1
upstream_kernel=1
dtparam=i2c_arm=on
END
echo 'console=ttyAMA0,115200 console=ttyS1,115200 console=tty1 rootwait net.ifnames=0' > "$W/boot/cmdline.txt"
find "$W/boot" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
find "$W/root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

say "file systems"
truncate -s $((BOOT_SECTORS * 512)) "$W/boot.vfat"
mkfs.vfat -F 32 -n HG-BOOT -i 48474254 --invariant "$W/boot.vfat" >/dev/null
MTOOLS_SKIP_CHECK=1 mcopy -m -i "$W/boot.vfat" "$W"/boot/* ::
truncate -s $((ROOT_SECTORS * 512)) "$W/root.ext4"
mkfs.ext4 -q -L hg-root -U $ROOT_UUID -E hash_seed=$ROOT_UUID -d "$W/root" "$W/root.ext4"

truncate -s $(((ROOT_START + ROOT_SECTORS) * 512)) "$W/sd.img"
sfdisk -q --no-reread --no-tell-kernel "$W/sd.img" <<END
label: dos
label-id: 0x48474254
start=$BOOT_START, size=$BOOT_SECTORS, type=c, bootable
start=$ROOT_START, size=$ROOT_SECTORS, type=83
END
dd if="$W/boot.vfat" of="$W/sd.img" bs=1M seek=$((BOOT_START / 2048)) conv=notrunc,sparse status=none
dd if="$W/root.ext4" of="$W/sd.img" bs=1M seek=$((ROOT_START / 2048)) conv=notrunc,sparse status=none
# Under its name only when it is whole.
cp --sparse=always "$W/sd.img" "$OUT.partial"
mv "$OUT.partial" "$OUT"
say "$OUT: $(du -h "$OUT" | cut -f1) used of $(stat -c %s "$OUT" | awk '{ print $1 / 2 ^ 30 }') GiB"
