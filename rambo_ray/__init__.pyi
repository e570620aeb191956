from rambo_ray.api.picked import Picked as Picked
from rambo_ray.api.rambo import Rambo as Rambo
from rambo_ray.benchmark.experiment import register_strategy as register_strategy
from rambo_ray.errors import RunError as RunError
from rambo_ray.errors import UserError as UserError

__version__: str
__all__ = ["Picked", "Rambo", "RunError", "UserError", "register_strategy"]
