"""Model files: SIDEKIT's layout, sealed, with provenance."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.formats import hdf5
from gmmcore.formats.hdf5 import (
    hdf5_image,
    load_model,
    prefixes,
    put_mixture,
    read_hdf5,
    save_model,
    seal,
    unseal,
    write_hdf5,
)


def diagonal(control: bool = True) -> GaussianMixture:
    rng = np.random.default_rng(1)
    variances = np.exp(rng.normal(size=(4, 3)))
    return GaussianMixture(
        [0.1, 0.2, 0.3, 0.4],
        rng.normal(size=(4, 3)),
        1 / variances,
        variances * 2 if control else None,
    )


def full() -> GaussianMixture:
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(2, 3, 6))
    return GaussianMixture.from_covariances(
        [0.25, 0.75], rng.normal(size=(2, 3)), spread @ spread.transpose(0, 2, 1)
    )


def entries() -> list[HistoryEntry]:
    return [HistoryEntry("diag", 4, i, 2, 100, -3.5 + i, np.nan, 1, 2, 3, 0.25) for i in (1, 2)]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("mixture", [diagonal(), diagonal(False), full()])
def test_a_model_comes_back_with_its_provenance(
    tmp_path: Path, mixture: GaussianMixture, compress: bool
) -> None:
    path = tmp_path / "m.h5"
    digest = save_model(path, mixture, {"run": "a", "gain": 0.5}, entries(), compress=compress)
    model = load_model(path)
    assert model.mixture == mixture
    assert model.facts == {"run": "a", "gain": 0.5}
    assert [e.log_likelihood for e in model.history] == [-2.5, -1.5]
    assert model.history[0].stage == "diag"
    assert np.isnan(model.history[1].gain)
    assert model.digest == digest == unseal(path, "mixture")[0]["digest"]


def test_a_history_of_an_earlier_version_has_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    earlier = [name for name in hdf5.HISTORY_TYPE.names or () if name != "level"]
    rows = [tuple(getattr(entry, name) for name in earlier) for entry in entries()]

    def build(**others: str) -> Callable[[h5py.File], None]:
        types = {name: others.get(name, hdf5.HISTORY_TYPE[name]) for name in earlier}
        kind = np.dtype([(name.replace("low", "weak"), kind) for name, kind in types.items()])

        def write(file: h5py.File) -> None:
            put_mixture(file, full(), "", False)
            file["gmmcore/history"] = np.array(rows, dtype=kind)

        return write

    seal(path, "mixture", hdf5_image(build()))
    history = load_model(path).history
    assert [entry.log_likelihood for entry in history] == [-2.5, -1.5]
    assert {(entry.level, entry.stage) for entry in history} == {(0, "diag")}
    seal(path, "mixture", hdf5_image(build(frames="<f4")))
    with pytest.raises(GmmcoreError, match="its history is not one"):
        load_model(path)


def test_equal_models_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(tmp_path / name, full(), {"run": "a"}, entries())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_h5py_sees_the_datasets_of_sidekit(tmp_path: Path) -> None:
    path, mixture = tmp_path / "m.h5", full()
    write_hdf5(path, mixture, prefix="ubm_")
    with h5py.File(path) as file:
        assert set(file) == {
            "ubm_" + n for n in ("w", "mu", "invcov", "invchol", "cov_var_ctl", "cst", "det", "a")
        }
        assert all(d.dtype == np.float64 and d.fletcher32 for d in file.values())
        assert {d.compression for d in file.values()} == {"gzip"}
        upper = file["ubm_invchol"][()]
        assert np.array_equal(upper, np.triu(upper))
        np.testing.assert_allclose(upper.transpose(0, 2, 1) @ upper, mixture.precisions)
        np.testing.assert_allclose(file["ubm_det"][()], np.linalg.det(mixture.covariances))
        np.testing.assert_allclose(
            file["ubm_cst"][()],
            (2 * np.pi) ** -1.5 / np.sqrt(np.linalg.det(mixture.covariances)),
        )


def test_diagonal_constants(tmp_path: Path) -> None:
    path, mixture = tmp_path / "m.h5", diagonal()
    write_hdf5(path, mixture)
    with h5py.File(path) as file:
        assert file["invchol"].shape == (0,)
        cst = (2 * np.pi) ** -1.5 * np.sqrt(mixture.precisions.prod(axis=1))
        np.testing.assert_allclose(file["cst"][()], cst)
        np.testing.assert_allclose(
            file["a"][()],
            (mixture.means**2 * mixture.precisions).sum(axis=1)
            - 2 * (np.log(mixture.weights) + np.log(cst)),
        )


def test_constants_may_overflow_in_high_dimension(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    mixture = GaussianMixture([1.0], np.zeros((1, 400)), np.full((1, 400), 1e-3))
    write_hdf5(path, mixture)
    with h5py.File(path) as file:
        assert file["det"][0] == np.inf
        assert np.isfinite(file["a"][0])
    assert read_hdf5(path, path.read_bytes()) == mixture


def test_several_mixtures_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    save_model(path, full(), {"run": "a"}, entries())
    write_hdf5(path, diagonal(), prefix="diag_", mode="a")
    write_hdf5(path, diagonal(False), prefix="plain_", mode="a")
    assert prefixes(path, path.read_bytes()) == ["", "diag_", "plain_"]
    assert load_model(path).mixture == full()
    assert load_model(path).facts == {"run": "a"}
    assert len(load_model(path).history) == 2
    assert read_hdf5(path, path.read_bytes(), prefix="diag_") == diagonal()
    assert read_hdf5(path, path.read_bytes(), prefix="plain_") == diagonal(False)
    with pytest.raises(GmmcoreError, match="already holds a mixture with the prefix 'diag_'"):
        write_hdf5(path, diagonal(), prefix="diag_", mode="a")
    with pytest.raises(GmmcoreError, match=r"no mixture with the prefix 'x'; .*'diag_'"):
        read_hdf5(path, path.read_bytes(), prefix="x")


def test_a_mixture_is_added_to_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["other"] = np.arange(3.0)
    write_hdf5(path, full(), prefix="x", mode="a")
    assert read_hdf5(path, path.read_bytes(), prefix="x") == full()
    with h5py.File(path) as file:
        assert file["other"][()].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("at", [0, 30, 100, 500, 1024, 3000, -1])
def test_any_change_of_our_file_is_seen(tmp_path: Path, at: int) -> None:
    path = tmp_path / "m.h5"
    save_model(path, diagonal(), {"run": "a"}, entries())
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"m\.h5"):
        load_model(path)


def test_truncation_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    save_model(path, diagonal(), {}, entries())
    content = path.read_bytes()
    for size in (0, 5, 700, 1024, 2000, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError):
            load_model(path)


def foreign(path: Path, **changes: object) -> Path:
    """An unsealed file as SIDEKIT would write it, with some datasets replaced."""
    mixture = diagonal()
    values: dict[str, object] = {
        "w": mixture.weights,
        "mu": mixture.means,
        "invcov": mixture.precisions,
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            if value is not None:
                file[name] = value
    return path


def test_a_foreign_file_may_lack_the_variance_control(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.h5")
    assert read_hdf5(path, path.read_bytes()).variance_control is None
    path = foreign(tmp_path / "n.h5", cov_var_ctl=np.ones(4))
    assert read_hdf5(path, path.read_bytes()).variance_control is None


def test_a_foreign_factor_is_not_trusted(tmp_path: Path) -> None:
    # SIDEKIT writes the lower factor where the upper one belongs.
    path, mixture = tmp_path / "m.h5", full()
    lower = np.linalg.cholesky(mixture.precisions)
    with h5py.File(path, "w") as file:
        file["w"], file["mu"], file["invcov"] = mixture.weights, mixture.means, mixture.precisions
        file["invchol"] = lower
    read = read_hdf5(path, path.read_bytes())
    assert np.array_equal(read.precision_factors, mixture.precision_factors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w": None}, "no mixture with the prefix ''"),
        ({"mu": None}, "mu"),
        ({"w": np.array([0.5, 0.5, np.nan, 0.0])}, "weights hold a value that is not finite"),
        ({"w": np.array([0.5, 0.5, 0.5, -0.5])}, "negative weight"),
        ({"w": np.array([0.5, 0.5, 0.5, 0.5])}, "sum to 2"),
        ({"w": np.array(b"text")}, "float64 was expected"),
        ({"w": np.ones((2, 2))}, "shape"),
        ({"w": h5py.Empty("f8")}, "no array"),
        ({"invcov": -np.ones((4, 3))}, "not positive"),
        ({"invcov": np.ones((4, 2))}, "shape"),
        ({"mu": np.ones((4, 0))}, "dimension 0"),
        ({"mu": h5py.SoftLink("/invcov")}, "link to elsewhere"),
        ({"mu": h5py.ExternalLink("/etc/passwd", "/x")}, "link to elsewhere"),
    ],
)
def test_foreign_nonsense_is_one_clear_error(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = foreign(tmp_path / "m.h5", **changes)
    with pytest.raises(GmmcoreError, match=rf"m\.h5.*{message}") as caught:
        read_hdf5(path, path.read_bytes())
    assert "\n" not in str(caught.value)


def test_values_that_are_elsewhere_or_absurd_are_refused(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(bytes(96))
    outside = [(str(tmp_path / "values"), 0, 96)]
    layout = h5py.VirtualLayout((4, 3), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "m.h5"), "invcov", (4, 3))
    makers = {
        "elsewhere": lambda f: f.create_dataset("mu", (4, 3), "f8", external=outside),
        "elsewhere ": lambda f: f.create_virtual_dataset("mu", layout),
        "claims": lambda f: f.create_dataset("mu", (4, 1 << 40), "f8", chunks=(1, 1 << 10)),
        "does not use": lambda f: f.create_dataset("mu", (4, 3), "f8", compression="lzf"),
        "chunks larger": lambda f: f.create_dataset(
            "mu", (4, 3), "f8", chunks=(1 << 13, 1 << 10), maxshape=(None, None), fillvalue=1
        ).write_direct(np.ones((4, 3))),
    }
    for message, make in makers.items():
        path = foreign(tmp_path / "m.h5", mu=None)
        with h5py.File(path, "a") as file:
            make(file)
        with pytest.raises(GmmcoreError, match=message.strip()):
            read_hdf5(path, path.read_bytes())


@pytest.mark.slow
def test_damage_to_the_index_of_chunks_is_seen(tmp_path: Path) -> None:
    """HDF5 itself reads zeros where its index does not lead to a chunk."""
    path, mixture = tmp_path / "m.h5", diagonal()
    write_hdf5(path, mixture)
    content = path.read_bytes()[1024:]
    nodes = [at for at in range(len(content)) if content[at : at + 5] == b"TREE\x01"]
    assert len(nodes) == 7  # one for each array that is not empty
    refused = 0
    for number, node in enumerate(nodes):
        # Every byte of a node in two of the nodes, which are alike.
        for at in range(node + number % 3, node + 72, 3):
            damaged = bytearray(content)
            damaged[at] ^= 2
            try:
                found = read_hdf5(path, bytes(damaged))
            except GmmcoreError:
                refused += 1
            else:
                # The arrays that are recomputed are not needed.
                assert found == mixture
    assert refused > 30


def test_zeros_that_compress_a_thousandfold_are_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.h5", mu=None)
    with h5py.File(path, "a") as file:
        # 512 MiB of nothing in half a MiB.
        means = file.create_dataset(
            "mu", (4, 1 << 24), "f8", chunks=(1, 1 << 21), compression="gzip", fillvalue=0
        )
        chunk = zlib.compress(bytes(8 << 21))
        for row in range(4):
            for at in range(0, 1 << 24, 1 << 21):
                means.id.write_direct_chunk((row, at), chunk)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(GmmcoreError, match="mu claims 536870912 bytes"):
        read_hdf5(path, path.read_bytes())


def test_a_full_mixture_of_diagonal_matrices_is_not_mistaken_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gmmcore.formats.hdf5._FREE_BYTES", 0)
    monkeypatch.setattr("gmmcore.formats.hdf5._LARGEST_EXPANSION", 4)
    path, count, dimension = tmp_path / "m.h5", 16, 220
    precisions = np.broadcast_to(np.eye(dimension), (count, dimension, dimension))
    mixture = GaussianMixture(np.full(count, 1 / count), np.zeros((count, dimension)), precisions)
    save_model(path, mixture, {}, compress=True)
    assert path.stat().st_size * 4 < precisions.nbytes
    assert load_model(path).mixture.components == count


def test_a_prefix_may_have_a_slash(tmp_path: Path) -> None:
    path, mixture = tmp_path / "m.h5", diagonal(control=False)
    with h5py.File(path, "w") as file:
        for name, values in (("w", mixture.weights), ("mu", mixture.means)):
            file[f"ubm/{name}"] = values
        file["ubm/invcov"] = mixture.precisions
    content = path.read_bytes()
    assert read_hdf5(path, content, prefix="ubm/") == mixture
    assert prefixes(path, content) == ["ubm/"]
    with pytest.raises(GmmcoreError, match=r"mixtures with the prefixes \['ubm/'\]"):
        read_hdf5(path, content)
