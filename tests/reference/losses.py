"""The losses by their definitions: a row and a class at a time, Python floats (float64).

`-inf` logits have no probability.
"""

import math

Row = list[float]


def probabilities(logits: Row, temperature: float, top_k: int | None = None) -> Row:
    """softmax(logits / temperature) over the top_k largest (lowest class first among equals)."""
    kept = sorted(range(len(logits)), key=lambda c: (-logits[c], c))[: top_k or len(logits)]
    largest = max(logits)
    weights = [
        math.exp((logits[c] - largest) / temperature) if c in kept else 0.0 for c in range(len(logits))
    ]
    total = math.fsum(weights)
    return [w / total for w in weights]


def log_probabilities(logits: Row, temperature: float) -> Row:
    """log softmax(logits / temperature)."""
    largest = max(logits)
    scaled = [(x - largest) / temperature for x in logits]
    log_total = math.log(math.fsum(math.exp(x) for x in scaled))
    return [x - log_total for x in scaled]


def cross_entropy(student: Row, label: int) -> float:
    """−log softmax(student)[label]; 0 for an ignored label."""
    return 0.0 if label == -100 else -log_probabilities(student, 1.0)[label]


def soft_cross_entropy(student: Row, p: Row, student_temperature: float) -> float:
    """−Σ p log q."""
    log_q = log_probabilities(student, student_temperature)
    return -math.fsum(p[c] * log_q[c] for c in range(len(p)) if p[c] > 0)


def forward_kl(student: Row, p: Row, student_temperature: float) -> float:
    """Σ p log (p / q)."""
    log_q = log_probabilities(student, student_temperature)
    return math.fsum(p[c] * (math.log(p[c]) - log_q[c]) for c in range(len(p)) if p[c] > 0)


def reverse_kl(student: Row, p: Row, student_temperature: float, floor: float) -> float:
    """Σ q log (q / p), p at least the floor."""
    log_q = log_probabilities(student, student_temperature)
    return math.fsum(math.exp(log_q[c]) * (log_q[c] - math.log(max(p[c], floor))) for c in range(len(p)))


def jensen_shannon(student: Row, p: Row, student_temperature: float) -> float:
    """½ Σ p log (p / m) + ½ Σ q log (q / m), m = (p + q) / 2."""
    q = [math.exp(x) for x in log_probabilities(student, student_temperature)]
    total = 0.0
    for c in range(len(p)):
        m = (p[c] + q[c]) / 2
        total += 0.5 * p[c] * math.log(p[c] / m) if p[c] > 0 else 0.0
        total += 0.5 * q[c] * math.log(q[c] / m) if q[c] > 0 else 0.0
    return total


def mean_squared_error(student: Row, target: Row) -> float:
    """Mean over the dimensions of the squared difference."""
    return math.fsum((s - t) ** 2 for s, t in zip(student, target)) / len(student)


def cosine_distance(student: Row, target: Row) -> float:
    """1 − cos of the angle between the rows."""
    lengths = math.hypot(*student) * math.hypot(*target)
    return 1 - math.fsum(s * t for s, t in zip(student, target)) / lengths


def mean_and_variance(rows: list[Row]) -> tuple[Row, Row]:
    """Mean and (population) variance of each column, in two passes."""
    columns = list(zip(*rows))
    means = [math.fsum(column) / len(rows) for column in columns]
    return means, [
        math.fsum((x - mean) ** 2 for x in column) / len(rows) for column, mean in zip(columns, means)
    ]
