"""Planning: what published recipes, and the user's own laws, do with a budget. No torch.

made = plan(budget="64gpu-hours", hardware="h100", data=3e11)
print(made)
made.chosen["lr"]
"""

from stepladder.planning.conflicts import Conflict, conflicts, rates_at
from stepladder.planning.counting import CONVENTIONS, Convention, Shape, convert, shape_for
from stepladder.planning.own import own_plan
from stepladder.planning.plan import Plan, Quantity, Setting
from stepladder.planning.planner import Plans, plan
from stepladder.planning.published import chosen, published_plans
from stepladder.planning.table import render

__all__ = [
    "CONVENTIONS",
    "Conflict",
    "Convention",
    "Plan",
    "Plans",
    "Quantity",
    "Setting",
    "Shape",
    "chosen",
    "conflicts",
    "convert",
    "own_plan",
    "plan",
    "published_plans",
    "rates_at",
    "render",
    "shape_for",
]
