"""The ablations of ``benchmarks/evidence.py`` with longer training: new scenes, larger batches, a wider network.

A repeated call with the same options resumes; the tables in ``--out`` contain the results so far.
"""

from __future__ import annotations

import queue_options  # makes the next import possible

# isort: split
import evidence


def main() -> None:
    """Train for one slot."""
    parser = queue_options.slot_parser(__doc__)
    parser.add_argument("--table", choices=list(evidence.EVIDENCE), default="centers")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--init-from", help="model whose backbone all rows start from, such as town")
    args = parser.parse_args()
    start = [] if args.init_from is None else ["--init-from", args.init_from]
    queue_options.unpack(args.carried, args.work)
    args.out.mkdir(parents=True, exist_ok=True)
    size = ["--steps", str(args.steps), "--batch-size", str(args.batch_size), "--width", str(args.width)]
    size += ["--fresh", "--val-scenes", "500", "--workers", str(args.workers), "--threads", "4"]
    if args.quick:
        size = ["--steps", "2", "--batch-size", "2", "--width", "16", "--scenes", "4", "--val-scenes", "2"]
        size += ["--workers", "0", "--rows", *list(evidence.EVIDENCE[args.table].names)[::4]]
    seeds = [str(seed) for seed in args.seeds]
    places = ["--work", str(args.work), "--out", str(args.out / f"evidence_{args.table}.md"), "--device", args.device]
    is_done = evidence.main(
        ["--table", args.table, *places, *size, *start, "--seeds", *seeds, "--minutes", str(args.minutes)]
    )
    queue_options.pack(args.work, args.out)
    if not is_done:
        raise SystemExit(queue_options.UNFINISHED)


if __name__ == "__main__":
    main()
