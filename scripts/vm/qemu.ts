// QEMU's command line for a machine: what works under emulation alone, and boots fastest.
// Trade-off: no KVM. Where there is one the machine would be faster and its interrupts go another way, and then
// a test could pass on one host and fail on the next.

import fs from 'node:fs'
import path from 'node:path'
import { initramfs } from './initramfs.ts'
import type { MachineOptions } from './machine.ts'
import type { Parts } from './parts.ts'
import { device } from './shapes.ts'

/**
 * The arguments, with the files that they name.
 * @param folder where the machine's sockets are and its files are made
 */
export function qemuArguments(options: MachineOptions, parts: Parts, folder: string): string[] {
  const ramdisk = path.join(folder, 'initramfs')
  const init = path.join(import.meta.dirname, '../../../scripts/vm/guest/init')
  fs.writeFileSync(ramdisk, initramfs({ busybox: parts.busybox, modules: parts.modules, init }))
  const start = path.join(path.dirname(init), 'start')
  const append =
    'console=ttyS0 quiet panic=-1 oops=panic intel_iommu=on mitigations=off no_timer_check ' +
    `cryptomgr.notests rodata=off init_on_alloc=0 unvme.start=${start} unvme.folder=${folder}`

  // Emulation does `rep movsb` and `rep stosb` byte by byte: copying and clearing take a fifth of the time where
  // C library and kernel believe that these are slow.
  const processor = 'max,-erms,-fsrm'
  const devices = (options.shapes ?? []).map((name) => device(name, folder, options.disks?.[name]))
  for (const disk of devices.flatMap((each) => each.disks)) {
    fs.writeFileSync(disk.path, '')
    fs.truncateSync(disk.path, disk.bytes)
  }
  const port = (name: string) => [
    ...['-chardev', `socket,id=${name},path=${path.join(folder, name)}`],
    ...['-device', `virtserialport,chardev=${name},name=unvme.${name}`],
  ]
  return [
    ...['-machine', 'q35,kernel-irqchip=off', '-accel', 'tcg,thread=multi', '-cpu', processor],
    ...['-smp', String(options.cpus ?? 1), '-m', String(options.memory ?? 1024)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-bios', 'qboot.rom'],
    ...['-kernel', parts.kernel, '-initrd', ramdisk, '-append', append],
    ...['-serial', `file:${path.join(folder, 'console')}`],
    ...['-chardev', `socket,id=qmp,path=${path.join(folder, 'qmp')}`, '-mon', 'chardev=qmp,mode=control'],
    // Before the other devices, or it does not translate for them.
    ...(options.iommu === false ? [] : ['-device', 'intel-iommu,intremap=on']),
    ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
    ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host,addr=02.0'],
    ...['-device', 'virtio-serial-pci,addr=03.0,max_ports=8'],
    ...['stdout', 'stderr', 'host'].flatMap(port),
    ...devices.flatMap((each) => each.arguments),
    ...(options.qemu ?? []),
  ]
}
