// LBA formats of the controller's namespaces, by their index.
// Trade-off: no metadata and no protection information: what the medium has is blocks alone.

export const LBA_FORMATS = [{ lbads: 9 }, { lbads: 12 }] as const
