;; The hash of splitter.ts over a window of bytes: four lanes of 4096 bytes beside
;; each other, as each hash depends on the one before it, with SIMD; what is left,
;; and where a lane has found a boundary, byte by byte. `npm run gear` assembles
;; this into gear.ts.
;;
;; Memory: the gear table, 256 words, and behind it the window (splitter.ts).
(module
  (memory (export "memory") 2)

  ;; the hash before the next byte
  (global $hash (export "hash") (mut i32) (i32.const 0))

  ;; the gear of the byte at $at
  (func $gear (param $at i32) (result i32)
    (i32.load (i32.shl (i32.load8_u (local.get $at)) (i32.const 2))))

  ;; the hash before $at, of the 32 bytes before it: older ones have been shifted out
  (func $before (param $at i32) (result i32) (local $p i32) (local $h i32)
    (local.set $p (i32.sub (local.get $at) (i32.const 32)))
    (loop $next
      (local.set $h (i32.add (i32.shl (local.get $h) (i32.const 1)) (call $gear (local.get $p))))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $p) (local.get $at))))
    (local.get $h))

  ;; the gears of the bytes at $p in each lane
  (func $gears0 (param $p i32) (result v128)
    (v128.load32_lane 3 (i32.shl (i32.load8_u offset=12288 (local.get $p)) (i32.const 2))
      (v128.load32_lane 2 (i32.shl (i32.load8_u offset=8192 (local.get $p)) (i32.const 2))
        (v128.load32_lane 1 (i32.shl (i32.load8_u offset=4096 (local.get $p)) (i32.const 2))
          (v128.load32_zero (i32.shl (i32.load8_u (local.get $p)) (i32.const 2)))))))
  (func $gears1 (param $p i32) (result v128)
    (v128.load32_lane 3 (i32.shl (i32.load8_u offset=12289 (local.get $p)) (i32.const 2))
      (v128.load32_lane 2 (i32.shl (i32.load8_u offset=8193 (local.get $p)) (i32.const 2))
        (v128.load32_lane 1 (i32.shl (i32.load8_u offset=4097 (local.get $p)) (i32.const 2))
          (v128.load32_zero (i32.shl (i32.load8_u offset=1 (local.get $p)) (i32.const 2)))))))

  ;; Just behind the first byte of $from..$to whose hash is below $limit; 0 if there is none.
  (func (export "scan") (param $from i32) (param $to i32) (param $limit i32) (result i32)
    (local $p i32) (local $end i32) (local $h i32) (local $hashes v128) (local $least v128)
    (local.set $h (global.get $hash))
    (local.set $p (local.get $from))
    (block $bytes
      (loop $lanes
        (br_if $bytes (i32.lt_u (i32.sub (local.get $to) (local.get $p)) (i32.const 16384)))
        (local.set $hashes
          (i32x4.replace_lane 3
            (i32x4.replace_lane 2
              (i32x4.replace_lane 1 (i32x4.splat (local.get $h))
                (call $before (i32.add (local.get $p) (i32.const 4096))))
              (call $before (i32.add (local.get $p) (i32.const 8192))))
            (call $before (i32.add (local.get $p) (i32.const 12288)))))
        (local.set $least (i32x4.splat (i32.const -1)))
        (local.set $from (local.get $p))
        (local.set $end (i32.add (local.get $p) (i32.const 4096)))
        (loop $byte
          (local.set $hashes
            (i32x4.add (i32x4.add (local.get $hashes) (local.get $hashes)) (call $gears0 (local.get $p))))
          (local.set $least (i32x4.min_u (local.get $least) (local.get $hashes)))
          (local.set $hashes
            (i32x4.add (i32x4.add (local.get $hashes) (local.get $hashes)) (call $gears1 (local.get $p))))
          (local.set $least (i32x4.min_u (local.get $least) (local.get $hashes)))
          (local.set $p (i32.add (local.get $p) (i32.const 2)))
          (br_if $byte (i32.lt_u (local.get $p) (local.get $end))))
        (if (v128.any_true (i32x4.lt_u (local.get $least) (i32x4.splat (local.get $limit))))
          (then
            ;; which byte it was the loop below finds
            (local.set $p (local.get $from))
            (br $bytes)))
        (local.set $h (i32x4.extract_lane 3 (local.get $hashes)))
        (local.set $p (i32.add (local.get $p) (i32.const 12288)))
        (br $lanes)))
    (block $none
      (loop $byte
        (br_if $none (i32.ge_u (local.get $p) (local.get $to)))
        (local.set $h (i32.add (i32.shl (local.get $h) (i32.const 1)) (call $gear (local.get $p))))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (br_if $byte (i32.ge_u (local.get $h) (local.get $limit))))
      (return (local.get $p)))
    (global.set $hash (local.get $h))
    (i32.const 0)))
