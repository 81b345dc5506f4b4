"""The objects of a driftline case, for Feast's own commands: as they are registered.

driftline registers them, from the case's declaration. So `feast plan` has nothing to change here, and
`feast apply` changes nothing. driftline writes this file, as every worker does at its start.
"""

from pathlib import Path

from feast import FeatureStore

_store = FeatureStore(repo_path=str(Path(__file__).parent))
_computed = _store.list_on_demand_feature_views()
for _view in _computed:
    # they are known; Feast would find them out by running the functions on made-up values
    _view.infer_features = lambda: None
_objects = [
    *_store.list_entities(),
    *_store.list_feature_views(),
    *_computed,
    *_store.list_feature_services(),
]
globals().update({f"object_{place}": found for place, found in enumerate(_objects)})
