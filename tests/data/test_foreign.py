"""Datasets of torch and Hugging Face as they are given."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from rambo_ray.data import foreign, held
from rambo_ray.data.decoding import decode, in_batches
from rambo_ray.data.images import Format
from rambo_ray.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 5, 3)).astype(np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


class Pictures(Dataset):
    """As torchvision's: (picture, number), names in `classes`."""

    def __init__(self, transform: Any = None, classes: Any = ("ant", "bee", "cat")) -> None:
        self.transform, self.classes = transform, list(classes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> tuple[Any, int]:
        picture = Image.fromarray(PIXELS[number])
        return (picture if self.transform is None else self.transform(picture)), LABELS[number]


def to_tensor(picture: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1).float() / 255


class TestTorch:
    @pytest.mark.parametrize("transform", [None, to_tensor])
    def test_pictures_and_tensors(self, transform: Any) -> None:
        given = Pictures(transform)
        assert foreign.is_torch(given) and not foreign.is_hugging_face(given)
        content, labels, ids = foreign.of_torch(given, True, None, "labeled")
        np.testing.assert_array_equal(content, PIXELS)
        assert labels is not None and labels.names == ("ant", "bee", "cat") and labels.codes.tolist() == LABELS
        assert ids is None

    def test_a_subset_has_the_names_of_the_whole(self) -> None:
        content, labels, _ = foreign.of_torch(Subset(Pictures(), [4, 1]), True, None, "labeled")
        np.testing.assert_array_equal(content, PIXELS[[4, 1]])
        assert labels is not None and labels.names == ("ant", "bee", "cat") and labels.codes.tolist() == [1, 1]

    def test_embeddings_and_a_pool_without_labels(self) -> None:
        x = torch.randn(6, 9)
        content, labels, _ = foreign.of_torch(TensorDataset(x), False, None, "pool")
        np.testing.assert_array_equal(content, x.numpy())
        assert labels is None
        _, labels, _ = foreign.of_torch(TensorDataset(x, torch.tensor(LABELS)), True, None, "labeled")
        assert labels is not None and labels.codes.tolist() == LABELS

    def test_arrays_and_lists_are_none(self) -> None:
        for given in (PIXELS, torch.tensor(PIXELS), [1, 2], "path", (PIXELS, LABELS)):
            assert not foreign.is_torch(given)

    @pytest.mark.parametrize(
        ("given", "labeled", "words"),
        [
            (DataLoader(Pictures()), True, "a DataLoader, which shuffles and gives batches; give its dataset"),
            (TensorDataset(torch.randn(3, 4)), True, "item 0 is no"),
        ],
    )
    def test_refused(self, given: Any, labeled: bool, words: str) -> None:
        assert foreign.is_torch(given)
        with pytest.raises(UserError) as caught:
            foreign.of_torch(given, labeled, None, "labeled")
        assert str(caught.value).startswith("labeled: ") and words in str(caught.value)


class TestHuggingFace:
    @pytest.fixture
    def made(self) -> Any:
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=["ant", "bee", "cat"]), id=datasets.Value("string")
        )
        rows = []
        for pixels, label in zip(PIXELS, LABELS, strict=True):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            rows.append({"image": {"bytes": file.getvalue(), "path": None}, "label": label, "id": f"no {len(rows)}"})
        return datasets.Dataset.from_list(rows, features=features)

    def test_images_stay_encoded_and_rows_in_their_order(self, made: Any) -> None:
        assert foreign.is_hugging_face(made)
        content, labels, ids = foreign.of_hugging_face(made.select([5, 0, 3]), True, None, "labeled")
        assert all(isinstance(one, bytes) for one in content)
        assert labels is not None and labels.names == ("ant", "bee", "cat") and labels.codes.tolist() == [2, 0, 0]
        assert ids == ("no 5", "no 0", "no 3")
        name = held.keep(content, labels, ids, "labeled")
        encoded = held.find(name, "data.labeled").encoded()
        np.testing.assert_array_equal(decode(in_batches(encoded), 3, Format()), PIXELS[[5, 0, 3]])

    def test_embeddings_and_a_pool_whose_labels_are_not_looked_at(self) -> None:
        datasets = pytest.importorskip("datasets")
        x = np.arange(12, dtype=np.float32).reshape(4, 3)
        given = datasets.Dataset.from_dict({"embedding": x.tolist(), "label": [None, 0, 0, 1]})
        content, labels, ids = foreign.of_hugging_face(given, False, None, "pool")
        np.testing.assert_array_equal(content, x)
        assert labels is None and ids is None

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"text": ["a"], "label": [0]}, "none among its columns (text, label)"),
            ({"embedding": [[1.0], [1.0, 2.0]], "label": [0, 1]}, "must be all of one length"),
            ({"embedding": [[1.0], [2.0]], "label": [0, None]}, "row 1 has no label"),
            ({"embedding": [[1.0], [2.0]], "class": [0, 1]}, "no column 'label'"),
            ({"embedding": [[1.0]], "embeddings": [[1.0]], "label": [0]}, "keep one with select_columns"),
        ],
    )
    def test_refused(self, columns: dict[str, Any], words: str) -> None:
        datasets = pytest.importorskip("datasets")
        with pytest.raises(UserError) as caught:
            foreign.of_hugging_face(datasets.Dataset.from_dict(columns), True, None, "labeled")
        assert str(caught.value).startswith("labeled: ") and words in str(caught.value)

    def test_a_dictionary_of_splits(self, made: Any) -> None:
        datasets = pytest.importorskip("datasets")
        splits = datasets.DatasetDict(train=made, test=made)
        assert foreign.is_hugging_face(splits)
        with pytest.raises(UserError, match=r"a dictionary of splits \(train, test\); give one, as in x\['train'\]"):
            foreign.of_hugging_face(splits, True, None, "labeled")
        with pytest.raises(UserError, match="a stream"):
            foreign.of_hugging_face(made.to_iterable_dataset(), True, None, "labeled")
