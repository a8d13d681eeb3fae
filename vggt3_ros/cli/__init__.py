"""The command line `vggt3`: one module per command, each with `add_parser(subparsers)` and
`run(args)`.

Commands of several modules have a folder, in which it is called command.
"""
