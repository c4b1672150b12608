"""`headgate boards`: the user's inventory, and the kinds of boards that it can name."""

from __future__ import annotations

from headgate.cli.options import Json
from headgate.cli.output import next_step, print_json, print_line, print_table


def boards(json: Json = False) -> None:
    """List your boards.toml, and the kinds of boards that one can name."""
    from headgate.device.boards import INVENTORY, inventory, kinds

    shipped, own = kinds(), inventory()
    if json:
        print_json({"kinds": shipped, "boards": own})
        return
    print_table(
        "kinds of boards",
        ["name", "board", "target", "cores", "sensors"],
        [
            (kind.name, kind.model, kind.target, kind.cores, ", ".join(kind.sensors))
            for kind in shipped.values()
        ],
    )
    if not own:
        print_line(f"your boards: none, as there is no {INVENTORY}")
        next_step("headgate deploy MODEL.hgb USER@HOST")
        return
    print_table(
        "your boards",
        ["name", "address", "kind", "target", "sensor"],
        [
            (
                board.name,
                board.address,
                board.kind.name if board.kind else "",
                board.kind.target if board.kind else "",
                board.sensor or "auto",
            )
            for board in own.values()
        ],
    )
    next_step("headgate validate MODEL.hgb --on all")
