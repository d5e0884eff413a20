// Linux's target within the machine, for programs that run there: set up by the shell, as nvmetcli would.

import { execFileSync } from 'node:child_process'

/** Runs commands of the shell, up to the first that fails; what they print is returned. @throws with their stderr */
export function sh(script: string): string {
  return execFileSync('sh', ['-ec', script], { encoding: 'utf8' })
}

/**
 * Makes a subsystem with a namespace in memory. It is reached once a port is linked to it.
 * @param options of the module null_blk
 */
export function makeSubsystem(nqn: string, options = 'gb=1 bs=512 memory_backed=1'): void {
  // crc32c: nvmet asks for it where a host wants digests.
  sh(`
    modprobe crc32c_generic
    modprobe null_blk nr_devices=1 queue_mode=2 ${options}
    modprobe nvmet
    modprobe nvmet-tcp
    mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
    cd /sys/kernel/config/nvmet
    mkdir subsystems/${nqn}
    echo 1 >subsystems/${nqn}/attr_allow_any_host
    mkdir subsystems/${nqn}/namespaces/1
    echo -n /dev/nullb0 >subsystems/${nqn}/namespaces/1/device_path
    echo 1 >subsystems/${nqn}/namespaces/1/enable`)
}

/** Makes a port of an address, which has nothing behind it yet. */
export function makePort(id: number, address: string, port = 4420): void {
  sh(`
    mkdir /sys/kernel/config/nvmet/ports/${id}
    cd /sys/kernel/config/nvmet/ports/${id}
    echo tcp >addr_trtype
    echo ipv4 >addr_adrfam
    echo ${address} >addr_traddr
    echo ${port} >addr_trsvcid`)
}

const linkOf = (port: number, nqn: string) => `/sys/kernel/config/nvmet/ports/${port}/subsystems/${nqn}`

/**
 * Opens the port with the subsystem behind it.
 * @param namespace of the network, as \`ip netns\` names it, in which it listens
 */
export function linkPort(port: number, nqn: string, namespace?: string): void {
  const inside = namespace === undefined ? '' : `nsenter --net=/run/netns/${namespace} `
  sh(`${inside}ln -s /sys/kernel/config/nvmet/subsystems/${nqn} ${linkOf(port, nqn)}`)
}

/** Closes it, and every connection to it with the last subsystem. */
export function unlinkPort(port: number, nqn: string): void {
  sh(`rm ${linkOf(port, nqn)}`)
}
