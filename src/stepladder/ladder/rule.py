"""The rule of a ladder: from a width to a whole recipe.

One rule makes every rung and the target, so that loss along it is a smooth curve that a law can
follow. What grows, and why, is stated beside each choice.
"""

from dataclasses import dataclass, replace

from stepladder.cost import cost, parameters
from stepladder.data import Dataset
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe, Schedule

WIDTH_PER_LAYER = 64  # aspect ratio of nanochat; Kaplan et al. (2001.08361) find it hardly matters
LEAST_DEPTH = 2
HEAD_SIZES = ((512, 32), (1536, 64))  # up to this target width, this head size
LARGE_HEAD_SIZE = 128
SMALL_WIDTH = 256  # targets up to here have few heads that widen, so that rungs can lie close
SMALL_HEADS = 4
SMALL_STEP = 8
MLP_RATIO = 8 / 3  # SwiGLU with as many parameters as a plain MLP of ratio 4 (Shazeer 2002.05202)

# Critical batch ~ D^0.47 (Zhang et al. 2410.21676), best batch ~ D^0.57 (Step Law 2503.04715).
BATCH_EXPONENT = 0.5
# With 500 steps the smallest rungs end before they have learned what all larger ones learn, and the
# loss of two-layer models leaves any power law by 1%; with 1,000 it keeps to one within 0.3%.
BASE_STEPS = 1000
SMALL_BATCH = 524_288  # tokens; below it a longer memory of squared gradients is better (OLMo-core)
BASE_DECAY = 0.1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is common to all rungs of one ladder.

    Attributes:
        head_size: the same at every width; 0 for small ladders, which keep the number of heads.
        ratio: training tokens per parameter (embedding not counted, head counted).
        base_width: where base hyperparameters are stated and tuned.
        base_batch: sequences per step at the base.
    """

    head_size: int
    ratio: float
    base_width: int
    base_batch: int
    context: int
    vocab_size: int
    data: Data
    precision: str = "float32"

    def model(self, width: int) -> Model:
        """The shape at a width: depth and everything else follow."""
        heads = width // self.head_size if self.head_size else SMALL_HEADS
        return Model(
            width=width,
            depth=depth_at(width),
            heads=heads,
            kv_heads=heads,
            head_size=width // heads,
            mlp_width=round(MLP_RATIO * width / 8) * 8,
            context=self.context,
            vocab_size=self.vocab_size,
        )

    def tokens(self, width: int) -> int:
        """Training tokens at a width."""
        return int(self.ratio * parameters(self.model(width)).non_embedding_with_head)

    def batch(self, width: int) -> int:
        """Tokens per step at a width: grows as a power of the training tokens."""
        grown = (self.tokens(width) / self.tokens(self.base_width)) ** BATCH_EXPONENT
        return max(1, round(self.base_batch * grown)) * self.context

    @property
    def beta2(self) -> float:
        """The same on all rungs; Porian et al. (2406.19146) find .95 too low at small batches."""
        return 0.99 if self.base_batch * self.context < SMALL_BATCH else 0.95

    def recipe(self, width: int, lr: float, seed: int) -> Recipe:
        """The recipe at a width, with a base learning rate.

        Weight decay keeps the memory of AdamW, batch / (rate x decay x tokens), the same fraction
        of every run (Wang & Aitchison 2405.13698, Bergsma et al. 2505.13738).
        """
        memory = self.tokens(self.base_width) / self.batch(self.base_width)
        tokens, batch = self.tokens(width), self.batch(width)
        return Recipe(
            model=self.model(width),
            optimizer=Optimizer(
                lr=lr, weight_decay=BASE_DECAY * memory * batch / tokens, beta2=self.beta2
            ),
            tokens=tokens,
            batch=batch,
            parametrization=Parametrization(
                base_width=self.base_width,
                base_depth=depth_at(self.base_width),
                base_heads=0 if self.head_size else SMALL_HEADS,
            ),
            schedule=Schedule(name="linear", warmup=0.1),
            data=self.data,
            precision=self.precision,
            evaluations=1,
            seed=seed,
        )


def depth_at(width: int) -> int:
    """Layers at a width."""
    return max(LEAST_DEPTH, round(width / WIDTH_PER_LAYER))


def head_size_at(width: int) -> int:
    """Head size of a ladder whose target has this width; 0 where the number of heads is kept."""
    if width <= SMALL_WIDTH:
        return 0
    return next((size for widest, size in HEAD_SIZES if width <= widest), LARGE_HEAD_SIZE)


def width_step(width: int) -> int:
    """Widths of a ladder whose target has this width are multiples of this."""
    return head_size_at(width) or SMALL_STEP


def rule_for(
    width: int, base_width: int, ratio: float, dataset: Dataset, *, context: int, precision: str
) -> Rule:
    """The rule of a ladder with a target width and a base, on a dataset."""
    rule = Rule(
        head_size=head_size_at(width),
        ratio=ratio,
        base_width=base_width,
        base_batch=1,
        context=context,
        vocab_size=dataset.vocab_size,
        data=Data(
            source=dataset.source,
            tokenizer=dataset.tokenizer,
            text_field=dataset.text_field,
            fingerprint=dataset.fingerprint,
        ),
        precision=precision,
    )
    return replace(rule, base_batch=max(1, round(rule.tokens(base_width) / BASE_STEPS / context)))


def compute(rule: Rule, width: int) -> float:
    """Training FLOPs of the rung at a width (matrix products, full attention square)."""
    return cost(rule.recipe(width, lr=1.0, seed=0)).flops_total
