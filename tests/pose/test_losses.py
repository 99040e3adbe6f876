"""Losses against explicit loops."""

import math

import pytest
import torch
from torch import Tensor

from ffreid.pose.data.batch import Targets
from ffreid.pose.losses import focal_loss, offset_loss, pose_losses, segmentation_accuracy
from ffreid.pose.model.ffb6d import Outputs

BATCH, CLASSES, KEYPOINTS, POINTS = 6, 5, 8, 40


@pytest.fixture
def case() -> tuple[Outputs, Targets]:
    draw = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    labels = torch.randint(0, CLASSES, (BATCH, POINTS), generator=draw)
    labels[2] = 0
    outputs = Outputs(
        normal(BATCH, CLASSES, POINTS),
        normal(BATCH, KEYPOINTS, POINTS, 3),
        normal(BATCH, 1, POINTS, 3),
    )
    return outputs, Targets(labels, normal(BATCH, POINTS, KEYPOINTS, 3), normal(BATCH, POINTS, 3))


def test_focal_loss_is_the_loop_over_points(case: tuple[Outputs, Targets]) -> None:
    outputs, targets = case
    total = 0.0
    for b in range(BATCH):
        for n in range(POINTS):
            p = outputs.segmentation[b, :, n].softmax(0)[targets.labels[b, n]].item()
            total -= (1 - p) ** 2 * math.log(p)
    ours = focal_loss(outputs.segmentation, targets.labels).item()
    assert ours == pytest.approx(total / (BATCH * POINTS), rel=1e-12)


def test_focal_weight_has_no_gradient() -> None:
    logits = torch.tensor([[[0.3], [-0.2]]], dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(focal_loss(logits, torch.tensor([[0]])))
    p = logits.detach()[0, :, 0].softmax(0)
    assert logits.grad is not None
    expected = (1 - p[0]) ** 2 * (p - torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(logits.grad[0, :, 0], expected)


def test_offset_loss_is_the_loop_over_foreground(case: tuple[Outputs, Targets]) -> None:
    outputs, targets = case
    ours = offset_loss(outputs.keypoint_offsets, targets.keypoint_offsets, targets.labels)
    for b in range(BATCH):
        points = [n for n in range(POINTS) if targets.labels[b, n] > 0]
        for k in range(KEYPOINTS):
            errors = outputs.keypoint_offsets[b, k] - targets.keypoint_offsets[b, :, k]
            total = sum(errors[n].abs().sum().item() for n in points)
            assert ours[b, k].item() == pytest.approx(total / (len(points) + 1e-3), rel=1e-12)
    assert ours[2].tolist() == [0.0] * KEYPOINTS  # without foreground


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_split_of_the_batch_gives_the_authors_gradient(
    case: tuple[Outputs, Targets], processes: int
) -> None:
    """The loss of the authors: 3 samples per process, offset terms summed, gradients averaged."""
    outputs, targets = case
    leaf = outputs.keypoint_offsets.clone().requires_grad_()

    def loss(samples: Tensor) -> Tensor:
        part = Outputs(
            outputs.segmentation[samples], leaf[samples], outputs.centre_offsets[samples]
        )
        expected = Targets(*(tensor[samples] for tensor in vars(targets).values()))
        return pose_losses(part, expected, 3.0)["keypoints"]

    def authors_loss(samples: Tensor) -> Tensor:
        expected, labels = targets.keypoint_offsets[samples], targets.labels[samples]
        return offset_loss(leaf[samples], expected, labels).sum()

    ours = torch.stack([loss(part) for part in torch.arange(BATCH).chunk(processes)]).mean()
    authors = torch.stack(
        [authors_loss(part) for part in torch.arange(BATCH).chunk(BATCH // 3)]
    ).mean()
    torch.testing.assert_close(torch.autograd.grad(ours, leaf), torch.autograd.grad(authors, leaf))


def test_accuracy_is_the_fraction_of_correct_points(case: tuple[Outputs, Targets]) -> None:
    outputs, targets = case
    right = (outputs.segmentation.argmax(1) == targets.labels).sum().item()
    assert segmentation_accuracy(outputs, targets).item() == pytest.approx(right / (BATCH * POINTS))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_terms_are_those_of_the_rounded_outputs(half: torch.dtype) -> None:
    """The sums over 12800 points overflow in half precision."""
    draw = torch.Generator().manual_seed(6)
    points, classes = 12800, 22

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    labels = torch.randint(0, classes, (2, points), generator=draw)
    values = [1e3 * normal(2, classes, points), 10 * normal(2, KEYPOINTS, points, 3)]
    values.append(10 * normal(2, 1, points, 3))
    outputs = [value.to(half).requires_grad_() for value in values]
    targets = Targets(labels, normal(2, points, KEYPOINTS, 3), normal(2, points, 3))
    expected = pose_losses(Outputs(*(part.detach().float() for part in outputs)), targets, 3.0)
    with torch.autocast("cpu", half):
        terms = pose_losses(Outputs(*outputs), targets, 3.0)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.isfinite() and torch.equal(term, expected[name]), name
    torch.autograd.backward(list(terms.values()))
    for part in outputs:
        assert part.grad is not None and part.grad.isfinite().all()
