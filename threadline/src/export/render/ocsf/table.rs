//! Which class and which activity of OCSF an entry is. The numbers are those of the release 1.8.0 of the schema, `ocsf/ocsf-schema`:
//! `events/application/datastore_activity.json`, `events/application/api_activity.json`, `events/iam/authentication.json`,
//! `objects/user.json`, `dictionary.json`.

use crate::ActorType;

/// The release of the schema.
pub(super) const VERSION: &str = "1.8.0";

/// A class of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A row was written.
    Datastore,
    /// Something was done.
    Api,
    /// Somebody came or went.
    Authentication,
}

impl Class {
    /// `class_uid`.
    pub(super) fn uid(self) -> u32 {
        match self {
            Self::Datastore => 6005,
            Self::Api => 6003,
            Self::Authentication => 3002,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Datastore => "Datastore Activity",
            Self::Api => "API Activity",
            Self::Authentication => "Authentication",
        }
    }

    /// `category_uid` and its name.
    pub(super) fn category(self) -> (u32, &'static str) {
        match self {
            Self::Datastore | Self::Api => (6, "Application Activity"),
            Self::Authentication => (3, "Identity & Access Management"),
        }
    }
}

/// `activity_id` and its name.
pub(super) type Activity<'t> = (u32, &'t str);

/// What the schema has no number for.
const OTHER: u32 = 99;

const UNKNOWN: (u32, &str) = (0, "Unknown");

/// Of a change. A truncate deletes rows: who counts deletions is to see it.
pub(super) fn of_change(op: &str) -> Activity<'_> {
    match op {
        "insert" => (6, "Create"),
        "update" => (2, "Update"),
        "delete" | "truncate" => (7, "Delete"),
        _ => (OTHER, op),
    }
}

/// Of an action or event. Without a verb it is what stands behind the first dot of the name, as the pipeline takes it.
pub(super) fn of_action<'t>(name: &'t str, verb: Option<&'t str>) -> (Class, Activity<'t>) {
    match name {
        "auth.login" | "auth.login.success" | "auth.login.failure" => {
            return (Class::Authentication, (1, "Logon"));
        }
        "auth.logout" => return (Class::Authentication, (2, "Logoff")),
        _ => {}
    }
    let verb = verb.or_else(|| name.split_once('.').map(|(_, verb)| verb)).unwrap_or_default();
    let bare = verb.strip_suffix(".success").or_else(|| verb.strip_suffix(".failure")).unwrap_or(verb);
    let activity = match bare {
        "" => UNKNOWN,
        "create" | "insert" | "add" | "register" => (1, "Create"),
        "read" | "view" | "get" | "list" | "export" | "download" => (2, "Read"),
        "update" | "change" | "edit" => (3, "Update"),
        "delete" | "remove" => (4, "Delete"),
        _ => (OTHER, verb),
    };
    (Class::Api, activity)
}

/// `status_id` and its name.
pub(super) fn status(status: &str) -> (u32, &str) {
    match status {
        "ok" => (1, "Success"),
        "error" => (2, "Failure"),
        _ => (OTHER, status),
    }
}

/// `severity_id` of every entry, and its name: the timeline knows of none, so a reader's own rules say what is severe.
pub(super) const SEVERITY: (u32, &str) = (1, "Informational");

/// `type_id` of a user and its name.
pub(super) fn user_type(kind: Option<&str>) -> (u32, &str) {
    let Some(kind) = kind else { return UNKNOWN };
    match kind.parse() {
        Ok(ActorType::User) => (1, "User"),
        Ok(ActorType::Admin) => (2, "Admin"),
        Ok(ActorType::System) => (3, "System"),
        Ok(ActorType::ServiceAccount) => (4, "Service"),
        Ok(ActorType::Anonymous) => UNKNOWN,
        Ok(ActorType::Job) | Err(_) => (OTHER, kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_to_rows_is_an_activity_of_datastores() {
        for (op, activity) in [
            ("insert", (6, "Create")),
            ("update", (2, "Update")),
            ("delete", (7, "Delete")),
            ("truncate", (7, "Delete")),
            ("merge", (99, "merge")),
        ] {
            assert_eq!(of_change(op), activity);
        }
    }

    #[test]
    fn names_of_sessions_are_authentications_and_verbs_decide_of_all_others() {
        for (name, verb, class, activity) in [
            ("auth.login.success", Some("login.success"), Class::Authentication, (1, "Logon")),
            ("auth.login.failure", None, Class::Authentication, (1, "Logon")),
            ("auth.login", None, Class::Authentication, (1, "Logon")),
            ("auth.logout", Some("delete"), Class::Authentication, (2, "Logoff")),
            ("auth.logins", None, Class::Api, (99, "logins")),
            ("session.create", None, Class::Api, (1, "Create")),
            ("auth.register.failure", Some("register.failure"), Class::Api, (1, "Create")),
            ("audit.exported", Some("export"), Class::Api, (2, "Read")),
            ("role.changed", Some("change"), Class::Api, (3, "Update")),
            ("post.gone", Some("delete"), Class::Api, (4, "Delete")),
            ("order.paid", Some("pay"), Class::Api, (99, "pay")),
            ("order.paid", Some("Delete"), Class::Api, (99, "Delete")),
            ("mfa.verify.failure", None, Class::Api, (99, "verify.failure")),
            ("paid", None, Class::Api, (0, "Unknown")),
            ("order.paid", Some(""), Class::Api, (0, "Unknown")),
        ] {
            assert_eq!(of_action(name, verb), (class, activity), "{name} {verb:?}");
        }
    }

    #[test]
    fn statuses_and_actors_that_nobody_knows_keep_their_words() {
        assert_eq!(status("ok"), (1, "Success"));
        assert_eq!(status("error"), (2, "Failure"));
        assert_eq!(status("later"), (99, "later"));
        for (kind, expected) in [
            (Some("user"), (1, "User")),
            (Some("admin"), (2, "Admin")),
            (Some("system"), (3, "System")),
            (Some("service_account"), (4, "Service")),
            (Some("job"), (99, "job")),
            (Some("robot"), (99, "robot")),
            (Some("anonymous"), (0, "Unknown")),
            (None, (0, "Unknown")),
        ] {
            assert_eq!(user_type(kind), expected);
        }
    }
}
