//! Keeps the index as a folder of Kubernetes YAML says, with no API server.
//!
//! A file is in force whole or not at all: one that cannot be read leaves what it said before. An object belongs to one
//! file; a second that declares it is refused.

use super::{Index, Key, Kind, Object, convert};
use notify::{RecursiveMode, Watcher};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;

/// How long after a first change of the folder the others that come with it are waited for: an editor writes a file in
/// several steps.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// Changes that wait to be looked at; past that the whole folder is read again.
const QUEUE: usize = 1024;

/// Why a file is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read from the disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no YAML.
    #[error("{0}")]
    Yaml(String),
    /// A document in it is not the object that it says to be.
    #[error("document {document}, {kind}: {error}")]
    Object {
        /// Counted from 1.
        document: usize,
        /// What it says to be.
        kind: String,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// An object in it has no name.
    #[error("document {document}: metadata.name: is required")]
    Unnamed {
        /// Counted from 1.
        document: usize,
    },
    /// Another file declares the same object.
    #[error("{kind:?} {name} is declared in {} already", other.display())]
    Declared {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: super::ObjectName,
        /// The other file.
        other: PathBuf,
    },
}

/// Why a folder cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("the folder of manifests {} cannot be watched: {error}", folder.display())]
pub struct WatchError {
    folder: PathBuf,
    error: notify::Error,
}

/// Reads the folder, and follows its changes. Ends only with an error; is dropped to stop.
///
/// # Errors
///
/// The folder is not there, or the system cannot watch it.
pub async fn run(index: &Index, folder: &Path) -> Result<(), WatchError> {
    let failed = |error| WatchError { folder: folder.to_owned(), error };
    let (tx, mut rx) = mpsc::channel(QUEUE);
    // A full queue loses nothing: whoever empties it then reads the folder anew.
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| drop(tx.try_send(event)))
        .map_err(failed)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(failed)?;
    let mut manifests = Manifests::new(index.clone());
    manifests.load(folder);
    while let Some(first) = rx.recv().await {
        tokio::time::sleep(DEBOUNCE).await;
        let mut events = vec![first];
        while let Ok(event) = rx.try_recv() {
            events.push(event);
        }
        match changed(&events) {
            Some(paths) => manifests.refresh_all(paths),
            None => manifests.rescan(folder),
        }
    }
    Ok(())
}

/// The files that events are about; none where events were lost.
fn changed(events: &[notify::Result<notify::Event>]) -> Option<BTreeSet<PathBuf>> {
    if events.len() >= QUEUE {
        return None;
    }
    let mut paths = BTreeSet::new();
    for event in events {
        match event {
            Ok(event) if event.need_rescan() => return None,
            Ok(event) if event.kind.is_access() => {}
            Ok(event) => paths.extend(event.paths.iter().filter(|path| is_manifest(path)).cloned()),
            Err(_) => return None,
        }
    }
    Some(paths)
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// What is in force, by file.
struct Manifests {
    index: Index,
    files: BTreeMap<PathBuf, Vec<Key>>,
    owners: HashMap<Key, PathBuf>,
    /// Files that declare what is another's. An object that moves from one file to another is in both for a moment.
    refused: BTreeSet<PathBuf>,
}

impl Manifests {
    fn new(index: Index) -> Self {
        Self { index, files: BTreeMap::new(), owners: HashMap::new(), refused: BTreeSet::new() }
    }

    /// Reads the whole folder for the first time.
    fn load(&mut self, folder: &Path) {
        let mut kinds: BTreeMap<Kind, Vec<Object>> = Kind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
        for path in files(folder) {
            for object in self.take(&path).unwrap_or_default() {
                kinds.entry(object.key().kind).or_default().push(object);
            }
        }
        for (kind, objects) in kinds {
            self.index.reset(kind, objects);
        }
    }

    /// Reads every file again.
    fn rescan(&mut self, folder: &Path) {
        let mut paths: BTreeSet<_> = files(folder).into_iter().collect();
        paths.extend(self.files.keys().cloned());
        self.refresh_all(paths);
    }

    /// Reads these files again, and those whose objects they may have given up.
    fn refresh_all(&mut self, paths: BTreeSet<PathBuf>) {
        paths.iter().for_each(|path| self.refresh(path));
        std::mem::take(&mut self.refused).iter().for_each(|path| self.refresh(path));
    }

    /// Reads one file again.
    fn refresh(&mut self, path: &Path) {
        let before = self.files.get(path).cloned().unwrap_or_default();
        let Some(objects) = self.take(path) else { return };
        let now: BTreeSet<_> = objects.iter().map(Object::key).collect();
        objects.into_iter().for_each(|object| self.index.apply(object));
        before.into_iter().filter(|key| !now.contains(key)).for_each(|key| self.index.delete(key));
    }

    /// What a file says, with its objects entered as its own; a file that is gone says nothing. None where it cannot be
    /// read, and stays as it was.
    fn take(&mut self, path: &Path) -> Option<Vec<Object>> {
        let objects = match self.read(path) {
            Ok(objects) => objects,
            Err(error) => {
                if matches!(error, ManifestError::Declared { .. }) {
                    self.refused.insert(path.to_owned());
                }
                tracing::error!(file = %path.display(), %error, "a manifest cannot be read and changes nothing");
                return None;
            }
        };
        for key in self.files.remove(path).into_iter().flatten() {
            self.owners.remove(&key);
        }
        let keys: Vec<_> = objects.iter().map(Object::key).collect();
        self.owners.extend(keys.iter().map(|key| (key.clone(), path.to_owned())));
        if !keys.is_empty() {
            self.files.insert(path.to_owned(), keys);
        }
        Some(objects)
    }

    fn read(&self, path: &Path) -> Result<Vec<Object>, ManifestError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let objects = objects(&text, self.index.view().cluster_domain())?;
        for object in &objects {
            let key = object.key();
            if let Some(other) = self.owners.get(&key).filter(|other| *other != path) {
                return Err(ManifestError::Declared { kind: key.kind, name: key.name, other: other.clone() });
            }
        }
        Ok(objects)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "the folder of manifests cannot be read");
            return Vec::new();
        }
    };
    let mut paths: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_manifest(path)).collect();
    paths.sort_unstable();
    paths
}

/// Every object of a YAML text's documents that the index keeps; lists are taken apart.
///
/// # Errors
///
/// See [`ManifestError`].
pub fn objects(text: &str, cluster_domain: &str) -> Result<Vec<Object>, ManifestError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Yaml(error.to_string()))?;
    let mut objects = Vec::new();
    for (i, document) in documents.into_iter().enumerate() {
        let items = match document {
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                }
            }
            other => vec![other],
        };
        for item in items {
            objects.extend(object(i + 1, item, cluster_domain)?);
        }
    }
    Ok(objects)
}

fn object(document: usize, mut value: Value, cluster_domain: &str) -> Result<Option<Object>, ManifestError> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (api_version, said) = (text("apiVersion"), text("kind"));
    let Some(kind) = convert::kind(&api_version, &said) else { return Ok(None) };
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Err(ManifestError::Unnamed { document });
    }
    if kind.is_namespaced() && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "default".into();
    }
    convert::object(kind, value, cluster_domain).map_err(|error| ManifestError::Object { document, kind: said, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Fact;

    fn service(name: &str, ip: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n\
             spec: {{clusterIPs: [{ip}], selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
        )
    }

    fn at(index: &Index, ip: &str) -> Option<String> {
        index.view().service_at(ip.parse().unwrap()).map(|service| service.name.name.clone())
    }

    #[test]
    fn a_bad_file_leaves_what_it_said_before_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, [service("a", "10.0.0.1"), service("b", "10.0.0.2")].join("---\n")).unwrap();
        let index = Index::new("cluster.local");
        let mut manifests = Manifests::new(index.clone());
        manifests.load(folder.path());
        assert!(index.synced());
        for bad in ["{", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: x}\n"] {
            fs::write(&file, bad).unwrap();
            manifests.refresh(&file);
            assert_eq!((at(&index, "10.0.0.1"), at(&index, "10.0.0.2")), (Some("a".into()), Some("b".into())), "{bad}");
        }
        fs::write(&file, service("b", "10.0.0.3")).unwrap();
        manifests.refresh(&file);
        assert_eq!(
            (at(&index, "10.0.0.1"), at(&index, "10.0.0.2"), at(&index, "10.0.0.3")),
            (None, None, Some("b".into()))
        );
        fs::remove_file(&file).unwrap();
        manifests.refresh(&file);
        assert_eq!(at(&index, "10.0.0.3"), None);
    }

    #[test]
    fn an_object_belongs_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("1.yaml"), folder.path().join("2.yml"));
        fs::write(&one, service("a", "10.0.0.1")).unwrap();
        fs::write(&other, service("a", "10.0.0.2")).unwrap();
        let index = Index::new("cluster.local");
        let mut manifests = Manifests::new(index.clone());
        manifests.load(folder.path());
        assert_eq!((at(&index, "10.0.0.1"), at(&index, "10.0.0.2")), (Some("a".into()), None));
        fs::remove_file(&one).unwrap();
        manifests.refresh_all([one].into());
        assert_eq!(at(&index, "10.0.0.2"), Some("a".into()));
    }

    #[test]
    fn what_is_no_object_of_the_index_is_passed_over_and_lists_are_taken_apart() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\n\
                    apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Namespace, metadata: {name: shop}}]\n";
        let listed = objects(text, "cluster.local").unwrap();
        assert_eq!(
            listed.iter().map(Object::key).collect::<Vec<_>>(),
            [Key { kind: Kind::Namespace, name: crate::index::ObjectName::new("", "shop") }]
        );
        let unnamed = objects("apiVersion: v1\nkind: Pod\n", "cluster.local").unwrap_err();
        assert_eq!(unnamed.to_string(), "document 1: metadata.name: is required");
    }

    #[test]
    fn a_custom_object_of_the_wrong_shape_is_an_unreadable_object_and_no_bad_file() {
        let text = "apiVersion: conduit.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {namespace: shop, name: x}\n\
                    spec: {targetRefs: [{kind: Service, name: web}], outbound: 7}\n";
        let objects = objects(text, "cluster.local").unwrap();
        let [Object::TrafficPolicy(policy)] = objects.as_slice() else { panic!("{objects:?}") };
        assert_eq!(policy.targets.len(), 1, "who it is about is known");
        assert!(policy.policy.unreadable().unwrap().starts_with("spec: "));
    }

    #[tokio::test]
    async fn changes_of_the_folder_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::new("cluster.local");
        let changes = index.changes();
        let follow = async {
            run(&index, folder.path()).await.unwrap();
        };
        let change = async {
            index.wait_synced().await;
            fs::write(folder.path().join("a.yaml"), service("a", "10.0.0.1")).unwrap();
            let mut facts = BTreeSet::new();
            while !facts.contains(&Fact::Address([10, 0, 0, 1].into())) {
                changes.changed().await;
                facts.extend(changes.take());
            }
        };
        tokio::select! {
            () = follow => panic!("following the folder ended"),
            () = change => {}
        }
    }
}
