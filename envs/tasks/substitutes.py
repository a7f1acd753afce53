"""Which tools could stand in for another one.

A task without its needed tool must not be solvable by a detour, so none of these is offered
there. A tool counts as soon as a clever policy could get the same answer with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ANY_TABLE = (
    "aggregate_table",
    "filter_table",
    "group_table",
    "join_tables",
    "pivot_table",
    "preview_table",
    "sort_table",
    "export_table",
)

_SUBSTITUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # math: run_select computes as well
        "calculate": ("run_select", "solve_equation", "statistics", "percentage"),
        "statistics": ("calculate", "run_select"),
        "percentage": ("calculate", "run_select", "solve_equation"),
        "convert_units": ("calculate", "run_select"),
        "convert_currency": ("get_exchange_rate",),
        "get_exchange_rate": ("convert_currency",),
        "add_days": ("days_between", "run_select"),
        "days_between": ("add_days", "run_select"),
        "weekday": ("add_days", "today", "run_select"),
        "today": ("weekday",),
        "solve_equation": ("calculate", "run_select"),
        "factorize": ("calculate", "gcd_lcm", "is_prime", "run_select"),
        "is_prime": ("calculate", "factorize", "gcd_lcm", "run_select"),
        "gcd_lcm": ("calculate", "factorize", "run_select"),
        # search: pages are reached and read in several ways
        "web_search": ("list_links", "follow_link"),
        "open_page": ("find_in_page", "follow_link"),
        "find_in_page": ("open_page", "follow_link"),
        "list_links": ("open_page", "follow_link"),
        "follow_link": ("open_page", "web_search", "list_links"),
        "page_info": ("open_page", "web_search", "follow_link"),
        # database: free SELECT reads everything
        "list_tables": ("run_select",),
        "describe_table": ("run_select",),
        "get_customer": ("run_select", "find_customers"),
        "get_product": ("run_select",),
        "get_order": ("run_select", "list_orders"),
        "get_employee": ("run_select",),
        "find_customers": ("run_select", "get_customer"),
        "list_orders": ("run_select", "get_order"),
        "run_select": (
            "describe_table",
            "find_customers",
            "get_customer",
            "get_employee",
            "get_order",
            "get_product",
            "list_orders",
            "list_tables",
        ),
        "set_order_status": ("delete_order",),
        "delete_order": ("set_order_status",),
        # data: most operations show the rows, and a few rows can be worked on by hand
        "list_data_tables": _ANY_TABLE,
        **dict.fromkeys(_ANY_TABLE, _ANY_TABLE),
        # assistant
        "reply_to_email": ("compose_email", "forward_email"),
        "forward_email": ("compose_email", "reply_to_email"),
        "create_reminder": ("create_calendar_event", "create_note"),
        "create_calendar_event": ("create_reminder",),
        "create_note": ("append_note", "create_reminder"),
        "append_note": ("create_note",),
        "maps_show_directions": ("maps_open_location",),
        "open_file": ("summarize_pdf",),
    }
)


def substitutes(tool: str) -> tuple[str, ...]:
    """Return the tools that could stand in for `tool`."""
    return tuple(name for name in _SUBSTITUTES.get(tool, ()) if name != tool)
