/** The native half of ffi-napi, which its own types do not declare. */
declare module 'ffi-napi/lib/bindings.js' {
  interface Bindings {
    readonly FFI_OK: number;
    readonly FFI_DEFAULT_ABI: number;
    readonly FFI_CIF_SIZE: number;
    /** Pointers to libffi's own type descriptions. */
    readonly FFI_TYPES: Readonly<Record<'int64' | 'pointer', Buffer>>;
    /** Pointers to functions that are there before any symbol is looked up. */
    readonly StaticFunctions: Readonly<Record<'dlsym' | '_errno', Buffer>>;
    ffi_prep_cif(cif: Buffer, count: number, result: Buffer, types: Buffer, abi: number): number;
    ffi_call(cif: Buffer, entry: Buffer, result: Buffer, argv: Buffer): void;
    /** Makes the call on a thread of libuv's pool; the buffers must live until then. */
    ffi_call_async(
      cif: Buffer,
      entry: Buffer,
      result: Buffer,
      argv: Buffer,
      done: (error: Error | null) => void,
    ): void;
  }
  const bindings: Bindings;
  export = bindings;
}
