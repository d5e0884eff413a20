// Controller or Namespace Structure: what an Identify command asks for (NVMe 1.4 base, section 5.15.1; 2.0 names).
// Trade-off: a plain table; which structure answers to each is said here, since one structure answers to many.

/** Bytes of every Identify data structure. */
export const IDENTIFY_BYTES = 4096

/** Values of CNS, in bits 7:0 of an Identify command's dword 10. */
export const CNS = {
  /** IdentifyNamespace of an active namespace, or of ALL_NAMESPACES for what they have in common. */
  NAMESPACE: 0x00,
  /** IdentifyController. */
  CONTROLLER: 0x01,
  /** Namespace list: active identifiers greater than the command's. */
  ACTIVE_NAMESPACES: 0x02,
  /** Namespace Identification Descriptors. */
  NAMESPACE_DESCRIPTORS: 0x03,
  NVM_SETS: 0x04,
  /** As 00h to 02h, of the I/O command set that the command names (2.0). */
  COMMAND_SET_NAMESPACE: 0x05,
  COMMAND_SET_CONTROLLER: 0x06,
  COMMAND_SET_ACTIVE_NAMESPACES: 0x07,
  /** I/O Command Set Independent Identify Namespace (2.0). */
  INDEPENDENT_NAMESPACE: 0x08,
  /** As 02h and 00h, of namespaces that exist, attached or not. */
  ALLOCATED_NAMESPACES: 0x10,
  ALLOCATED_NAMESPACE: 0x11,
  /** Controller list: those that a namespace is attached to, and all of the NVM subsystem. */
  ATTACHED_CONTROLLERS: 0x12,
  CONTROLLERS: 0x13,
  PRIMARY_CONTROLLER_CAPABILITIES: 0x14,
  SECONDARY_CONTROLLERS: 0x15,
  NAMESPACE_GRANULARITY: 0x16,
  UUIDS: 0x17,
  DOMAINS: 0x18,
  ENDURANCE_GROUPS: 0x19,
  COMMAND_SET_ALLOCATED_NAMESPACES: 0x1a,
  COMMAND_SET_ALLOCATED_NAMESPACE: 0x1b,
  IO_COMMAND_SETS: 0x1c,
} as const
