"""Joins images into groups that must not be torn apart: one patient, or one image.

What joins is what somebody wrote down (patient, study, the file that slices come from) and pixels that carry
information. Those of a near-uniform image join nothing: an empty slice looks the same in every patient.
"""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def group_names(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """The group of every row.

    Rows are in one group when a chain of these joins them: same image_id, same patient or file of the same source,
    same study, same bytes or pixels (unless near-uniform), near-duplicates.

    Args:
        rows: Rows of the tables `images` of all sources with `near_uniform`, in the sources' order; an image_id may
            occur once a source.
        pairs: Table `near duplicates` over their image_ids.

    Returns:
        Names, in the index of `rows`. A group is called after the smallest image_id of its first source, so
        that a source listed later renames no group of an earlier one unless it joins two of them.
    """
    informative = rows[~rows["near_uniform"]]
    links = pd.concat(
        [
            _links(informative, "pixels ", informative["pixel_sha256"]),
            _links(informative, "bytes ", informative["sha256"]),
            _links(rows, "file ", file_names(rows)),
            _links(rows, "patient ", rows["source"] + " " + rows["patient"]),
            _links(rows, "study ", rows["study"]),  # its ids are the same everywhere
            pd.DataFrame({"image": pairs["image_id"], "to": pairs["other_id"]}),
        ]
    )
    # Images, patients, files and digests are all nodes of one graph; an image's id cannot equal the other names.
    codes, nodes = pd.factorize(pd.concat([links["image"], links["to"]]).to_numpy(dtype=object))
    ends = codes.reshape(2, -1)
    graph = coo_array((np.ones(ends.shape[1], dtype=np.int8), (ends[0], ends[1])), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    component_of = pd.Series(
        component[pd.Index(nodes).get_indexer(pd.Index(rows["image_id"].to_numpy(dtype=object)))], index=rows.index
    )
    place = pd.Series(pd.factorize(rows["source"])[0], index=rows.index)
    named = pd.DataFrame({"component": component_of, "place": place, "image_id": rows["image_id"]})
    first = named.sort_values(["place", "image_id"]).drop_duplicates("component").set_index("component")["image_id"]
    return pd.Series(first.loc[component_of].array, index=rows.index)


def file_names(rows: pd.DataFrame) -> pd.Series:
    """One name for each file of each source: a file in a folder, or a member of an archive."""
    return rows["source"] + "\0" + rows["path"] + "\0" + rows["member"].fillna("")


def _links(rows: pd.DataFrame, kind: str, names: pd.Series) -> pd.DataFrame:
    """An edge from each image to what it shares with others; none where that is null."""
    return pd.DataFrame({"image": rows["image_id"], "to": kind + names}).dropna()
