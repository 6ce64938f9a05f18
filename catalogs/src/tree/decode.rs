//! From a tree to types: without a detour by JSON, which would copy every text once more.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
        value::{Error, MapAccessDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{Entry, Node, Value};

/// A table without some of its keys.
pub(crate) struct Without<'a>(pub(crate) &'a Node, pub(crate) &'static [&'static str]);

struct Entries<'a> {
    all: std::collections::btree_map::Iter<'a, String, Entry>,
    without: &'static [&'static str],
    value: Option<&'a Node>,
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'a> Entries<'a> {
    fn of(node: &'a Node, without: &'static [&'static str]) -> Option<Self> {
        Some(Self { all: node.table()?.iter(), without, value: None })
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let without = self.without;
        let Some((key, entry)) = self.all.find(|(key, _)| !without.contains(&key.as_str())) else { return Ok(None) };
        self.value = Some(&entry.node);
        let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(node) => seed.deserialize(node),
            None => Err(serde::de::Error::custom("a value without a key")),
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(text) | Value::Date(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(yes) => visitor.visit_bool(*yes),
            Value::Array(all) => visitor.visit_seq(Items(all.iter())),
            Value::Table(_) => Without(self, &[]).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match (self.str(), Entries::of(self, &[])) {
            (Some(text), _) => visitor.visit_enum(text.into_deserializer()),
            (None, Some(entries)) => visitor.visit_enum(MapAccessDeserializer::new(entries)),
            (None, None) => Err(serde::de::Error::custom("expected one of several")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> Deserializer<'de> for Without<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match Entries::of(self.0, self.1) {
            Some(entries) => visitor.visit_map(entries),
            None => self.0.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
